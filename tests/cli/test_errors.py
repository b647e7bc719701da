"""Every error of the command line: one line of what, one of what to do, exit code 2."""

import json
from pathlib import Path

import pytest
import torch

from graphkd.cli.option_groups import is_backbone, require_classifier

ROOT = Path(__file__).parents[2]
TEACHER = "--teacher ViT-B-32 --pretrained openai"
FIRST = [  # refused before torch is loaded: command, what, what to do
    ("distil --data photos", "Unknown command \"distil\". Did you mean \"distill\"?", "graphkd --help lists every command"),
    ("embedd", "Unknown command \"embedd\". Did you mean \"embed\"?", "graphkd --help lists"),
    ("--hlep", "Unknown command \"--hlep\"", "graphkd --help lists"),
    ("store verifi s", "Unknown command \"verifi\". Did you mean \"verify\"?", "graphkd --help lists every command"),
    ("methods prq", "Did you mean \"prg\"?", "--name: a method"),
    ("completion bsh", "Invalid value \"bsh\" for --shell. Choose from: \"bash\", \"zsh\", \"fish\". Did you mean \"bash\"?", "--shell: bash, zsh or fish"),
    ("completion", "graphkd completion needs a value of --shell", "--shell: bash, zsh or fish"),
    ("conformance --golden nowhere", "no golden file (*.json) in --golden nowhere", "leave --golden out for those of graphkd"),
    ("embed", "graphkd embed needs a value of --data", "--data: a folder with one folder a class"),
    ("embed --data photos", "graphkd embed needs a value of --out", "--out: folder of the store"),
    ("embed --data nowhere --out x", "there is no folder --data nowhere", "give a folder with one folder of images"),
    ("embed --data digts --out x", "there is no folder --data digts; did you mean 'digits'?", "give a folder"),
    ("embed --data cifar10O --out x", "no folder --data cifar10O; did you mean 'cifar10'?", "give a folder"),
    ("embed --data cifar10 --out x", "there is no folder --root data, where torchvision would keep cifar10", "add --download where there is a network"),
    ("embed --data list.yaml --out x", "--data list.yaml is a file, and no list of images (.txt)", "give a folder, or a list"),
    ("embed --data photos --out x", "no teacher was given", "give --teacher ViT-B-32 --pretrained openai, or"),
    ("embed --data photos --out x --pretrained openai", "--pretrained says which weights, and --teacher", "give --teacher"),
    ("embed --data photos --out x --teacher timm:resnet18", "timm:resnet18 has no weights, and an untrained network", "give --pretrained default"),
    (f"embed --data photos --out a.txt {TEACHER}", "Invalid value \"a.txt\" for --out. Only directory is allowed, but \"a.txt\" is a file", "--out: folder of the store"),
    (f"embed --data photos --out x {TEACHER} --dtype float61", "Invalid value \"float61\" for --dtype. Choose from: \"float32\", \"float16\", \"bfloat16\", \"int8\". Did you mean \"float16\"?", "--dtype: of embedding"),
    (f"embed --data photos --out x {TEACHER} --shard-size 0", "Invalid value \"0\" for --shard-size. Must be > 0", "--shard-size: samples per file"),
    (f"embed --data photos --out x {TEACHER} --batch-size ten", "--batch-size expects a whole number, found 'ten'", "--batch-size: images per forward pass"),
    (f"embed --data photos --out x {TEACHER} --batch-size", "graphkd embed needs a value of --batch-size", "--batch-size: images per forward pass"),
    (f"embed --data photos --out x {TEACHER} --bacth-size 3", "Unknown option: --bacth-size. Did you mean --batch-size?", "graphkd embed --help lists every option"),
    (f"embed --data photos --out x {TEACHER} --bacth-size=3", "Unknown option: --bacth-size. Did you mean --batch-size?", "graphkd embed --help"),
    (f"embed --data photos --out x {TEACHER} --batch 3", "Unknown option: --batch. Did you mean", "graphkd embed --help"),
    (f"embed --data photos --out x {TEACHER} extra", "unexpected argument 'extra'", "options are written --name value"),
    (f"embed --data photos --out x {TEACHER} --device gpu", "unknown device 'gpu'; did you mean 'cpu'?", "give auto, cpu, cuda or cuda:1"),
    (f"embed --data photos --out x {TEACHER} --workers -1", "Invalid value \"-1\" for --workers. Must be >= 0", "--workers: processes that load images"),
    (f"embed --data photos --out x {TEACHER} --classes nowhere.txt", "Invalid value \"nowhere.txt\" for --classes. \"nowhere.txt\" does not exist", "--classes: text file of class names"),
    (f"embed --data photos --out x {TEACHER} --templates imagnet", "there are no templates 'imagnet'; did you mean 'imagenet'?", "give imagenet, cifar, photo, or a text file"),
    (f"embed --data photos --out x {TEACHER} --templates a.txt", "--templates a.txt: the prompt 'no braces' does not contain {} exactly once", "write {} where the class name goes"),
    (f"embed --data photos --out x {TEACHER} --layout clases", "Did you mean \"classes\"?", "--layout: how to read"),
    ("distill --config nowhere.yaml", "cannot read --config nowhere.yaml: No such file", "give the path of a YAML file"),
    ("distill --config typo.yaml", "typo.yaml: unknown option 'epcohs'; did you mean 'epochs'?", "graphkd distill --help lists"),
    ("distill --config broken.yaml", "--config broken.yaml is no YAML file of options: line 2: ", "write one 'option: value' a line"),
    ("distill --config list.yaml", "--config list.yaml holds a list, expected a mapping", "write one 'option: value' a line"),
    ("distill --config ten.yaml", "ten.yaml: --epochs expects a whole number, found 'ten'", "--epochs: passes over the data"),
    ("distill --config twice.yaml", "is no YAML file of options: line 2: the key 'epochs' occurs twice", "write one 'option: value' a line"),
    ("distill --config dashes.yaml", "dashes.yaml gives batch_size twice, with a dash and with an underscore", "write one 'option: value' a line"),
    ("distill --config nines.yaml", "nines.yaml is no YAML file of options: line 1: a number has 5000 digits", "write one 'option: value' a line"),
    ("distill --config aliases.yaml", "aliases.yaml is no YAML file of options: line 1: aliases are not read", "write one 'option: value' a line"),
    (f"distill --data photos {TEACHER} --epochs {'9' * 5000}", "--epochs expects a whole number, found '999", "--epochs: passes over the data"),
    (f"distill --data photos {TEACHER} --epochs {'9' * 4000}", "9... (4002 characters)", "--epochs: passes over the data"),
    (f"distill --data photos {TEACHER} --templates latin1.txt", "cannot read --templates latin1.txt: 'utf-8'", "give a UTF-8 text file, one prompt a line"),
    ("distill --config many.yaml", "--config many.yaml is no YAML file of options: it has 72000 characters, at most 65536", "write one 'option: value' a line"),
    ("distill --config big.yaml", "big.yaml: --epochs expects a whole number below 2^63, found 9223372036854775808", "--epochs: passes over the data"),
    ("distill --config code.yaml", "--config code.yaml is no YAML file of options: line 1: tags such as", "write one 'option: value'"),
    ("distill --config other.yaml", "other.yaml holds options of 'graphkd embed'", "run graphkd embed --config other.yaml"),
    ("distill --data photos --split val --method none --labels task", "--split val is for data sets of torchvision, and --data photos is none", "leave --split out"),
    (f"distill --data photos {TEACHER} --method prq", "Did you mean \"prg\"?", "--method: graphkd methods"),
    (f"distill --data photos {TEACHER} --method none", "--method none leaves nothing to learn from", "add --labels task"),
    (f"distill --data photos {TEACHER} --set rho", "--set expects OPTION=VALUE, found 'rho'", "--set: an option of the method"),
    (f"distill --data photos {TEACHER} --epochs 0", "--epochs must be >= 1, found 0", "--epochs: passes over the data"),
    (f"distill --data photos {TEACHER} --epochs 2.5", "--epochs expects a whole number, found '2.5'", "--epochs: passes"),
    (f"distill --data photos {TEACHER} --lr -1", "--lr must be > 0, found -1.0", "--lr: highest learning rate"),
    (f"distill --data photos {TEACHER} --lr fast", "--lr expects a number, found 'fast'", "--lr: highest learning rate"),
    (f"distill --data photos {TEACHER} --warmup-epochs 200", "--warmup-epochs must be < epochs = 100, found 200.0", "--warmup-epochs: epochs of linear"),
    (f"distill --data photos {TEACHER} --precision fp61", "unknown precision 'fp61'; did you mean 'fp16'?", "choose one of no, bf16, fp16"),
    (f"distill --data photos {TEACHER} --augment crpo", "Did you mean \"crop\"?", "--augment: auto crops"),
    (f"distill --data photos {TEACHER} --max-megapixels 0", "Invalid value \"0.0\" for --max-megapixels. Must be > 0", "--max-megapixels: most pixels"),
    (f"distill --data photos {TEACHER} --size 1000000", "Invalid value \"1000000\" for --size. Must be <= 8192", "--size: side of its images"),
    (f"distill --data photos {TEACHER} --select inf", "--select inf is no whole number", "give how many images"),
    (f"select --data photos {TEACHER} --number inf --out a.csv", "--number inf is no whole number", "give how many images"),
    (f"select --data a.txt {TEACHER} --number 1 --out ./a.txt", "--out a.txt is what --data names, and would be overwritten", "give another name"),
    (f"predict --data list.csv {TEACHER} --out list.csv", "--out list.csv is what --data names", "give another name"),
    (f"embed --data photos {TEACHER} --out photos", "--out photos is what --data names", "give another name"),
    (f"distill --data photos {TEACHER} --size 0", "Invalid value \"0\" for --size. Must be > 0", "--size: side of its images"),
    (f"distill --data photos {TEACHER} --held-out 2", "Invalid value \"2.0\" for --held-out. Must be < 1", "--held-out: share of the images"),
    (f"distill --data photos {TEACHER} --val nowhere", "Invalid value \"nowhere\" for --val. \"nowhere\" does not exist", "--val: folder of images"),
    (f"distill --data photos {TEACHER} --run a.txt", "Only directory is allowed, but \"a.txt\" is a file", "--run: run folder"),
    (f"distill --data photos {TEACHER} --store s --teacher-maps x", "a store keeps no maps and no tokens", "leave --store out"),
    (f"embed --data photos --out x {TEACHER} --views 4", "--views 4 would be the same view each time", "add --augment resized, or --augment crop"),
    (f"embed --data photos --out x {TEACHER} --views 0", "Invalid value \"0\" for --views. Must be > 0", "--views: of each image"),
    ("embed --data photos --out x --teacher hf:org/model --pretrained openai", "--teacher hf:org/model brings its own weights", "leave --pretrained out"),
    ("embed --data photos --out x --teacher lite0 --pretrained openai", "--teacher lite0 brings its own weights", "leave --pretrained out"),
    ("embed --data photos --out x --teacher local-dir:photos --pretrained openai", "brings its own weights", "leave --pretrained out"),
    (f"distill --data photos {TEACHER} --init nowhere.pt", "Invalid value \"nowhere.pt\" for --init. \"nowhere.pt\" does not exist", "--init: start from the weights"),
    (f"distill --data photos {TEACHER} --init a.txt --student-pretrained", "--init and --student-pretrained both name first weights", "give one of them"),
    (f"distill --data photos {TEACHER} --no-freeze", "Unknown option: --no-freeze", "graphkd distill --help lists"),
    (f"distill --data photos {TEACHER} --freeeze conv1", "Unknown option: --freeeze. Did you mean --freeze?", "graphkd distill --help lists"),
    ("evaluate --data photos", "expected --model or --teacher, found neither", "give --model runs/photos-1"),
    ("evaluate --data photos --model nowhere", "nowhere is no run folder: student.json is missing", "give the folder that graphkd distill named"),
    ("evaluate --data photos --model photos", "photos is no run folder: student.json is missing", "give the folder"),
    ("evaluate --data photos --model nowhere.onnx", "there is no nowhere.onnx with an export.json beside it", "give a model.onnx that graphkd export wrote"),
    ("evaluate --data photos --model lonely.onnx", "there is no lonely.onnx with an export.json beside it", "give a model.onnx that graphkd export wrote"),
    ("predict --model run", "graphkd predict needs a value of --data", "--data: a folder, searched to the bottom"),
    ("predict --data photos", "expected --model or --teacher, found neither", "give --model runs/photos-1"),
    (f"predict --data photos --model run {TEACHER}", "expected --model or --teacher, found both", "give --model runs"),
    ("predict --data nowhere --model run", "there is no --data nowhere", "give a folder of images, an image, a text file"),
    ("predict --data photos --model nowhere", "nowhere is no run folder: student.json is missing", "give the folder"),
    ("predict --data photos --model lonely.onnx", "there is no lonely.onnx with an export.json beside it", "give a model.onnx"),
    ("predict --data photos --model run --classes a.txt", "--classes names the classes of a teacher", "leave --classes out"),
    ("predict --data photos --model run --out guesses.xls", "--out guesses.xls does not say what format it has", "give a name that ends in .csv, .jsonl"),
    ("predict --data photos --model run --out photos", "--out photos is a folder", "give a file, such as guesses.csv"),
    ("predict --data photos --model run --out a --format cvs", "Did you mean \"csv\"?", "--format: of that file"),
    ("predict --data photos --model run --format csv", "--format needs a file that keeps the predictions", "give --out guesses.csv"),
    ("predict --data photos --model run --move sorted", "--move needs a file that keeps the predictions", "give --out guesses.csv"),
    ("predict --data photos --model run --out a.csv --move x --copy y", "--move and --copy were both given", "give one of them"),
    ("predict --data photos --model run --out a.csv --move photos/x", "photos/x lies in --data photos, and the next run would read", "give a folder beside it"),
    ("predict --data photos --model run --out a.csv --copy a.txt", "Only directory is allowed, but \"a.txt\" is a file", "--copy: the same with copies"),
    ("predict --data photos --model run --out a.csv --above 0.9", "--above is for --move and --copy", "give one of them too"),
    ("predict --data photos --model run --out a.csv --above 9", "Invalid value \"9.0\" for --above. Must be <= 1", "--above: of --move"),
    ("predict --data photos --model run --top 0", "Invalid value \"0\" for --top. Must be > 0", "--top: classes of each image"),
    ("predict --data photos --model run --tpo 2", "Unknown option: --tpo. Did you mean --top?", "graphkd predict --help lists"),
    ("predcit", "Unknown command \"predcit\". Did you mean \"predict\"?", "graphkd --help lists"),
    ("inspect --data photos", "expected --model or --teacher or both, found neither", "give --model runs/photos-1, or"),
    (f"inspect --data photos {TEACHER} --neighbours 0", "Invalid value \"0\" for --neighbours. Must be > 0", "--neighbours: nearest images"),
    (f"inspect --data photos {TEACHER} --limit two", "--limit expects a whole number, found 'two'", "--limit: images to look at"),
    (f"distill --data photos {TEACHER} --watch -1", "Invalid value \"-1\" for --watch. Must be >= 0", "--watch: images whose embeddings"),
    ("distill --data photos --epcohs 3", "Unknown option: --epcohs. Did you mean --epochs?", "graphkd distill --help lists"),
    (f"distill --data photos {TEACHER} --reprot", "Unknown option: --reprot. Did you mean --report?", "graphkd distill --help lists"),
    ("report", "graphkd report needs a value of --run", "--run: folder of graphkd distill"),
    ("report nowhere", "nowhere is no run folder: run.yaml and config.json are missing", "give the folder that graphkd distill named"),
    ("report photos", "photos is no run folder: run.yaml and config.json are missing", "give the folder that graphkd distill named"),
    ("report made --out photos", "Only file is allowed, but \"photos\" is a directory", "--out: the page"),
    ("report made --pictures a.txt", "Only directory is allowed, but \"a.txt\" is a file", "--pictures: also write each picture"),
    ("report made --format pgn", "Did you mean \"png\"?", "--format: of those pictures"),
    ("compare made", "expected two different runs or more, found made", "give their folders"),
    ("compare made made", "expected two different runs or more, found made, made", "give their folders"),
    ("compare made nowhere", "nowhere is no run folder: run.yaml and config.json are missing", "give the folder that graphkd distill named"),
    ("compare made made2 --out photos", "Only file is allowed, but \"photos\" is a directory", "--out: the page"),
    ("compare made made2 --fromat png", "Unknown option: --fromat", "graphkd compare --help lists"),
    (f"distill --data photos {TEACHER} --init photos", "photos is no run folder: student.json is missing", "give the folder that graphkd distill named"),
    ("raport runs/photos-1", "Unknown command \"raport\". Did you mean \"report\"?", "graphkd --help lists every command"),
    ("export", "graphkd export needs a value of --run", "--run: run folder of graphkd distill"),
    ("export nowhere", "nowhere is no run folder: student.json is missing", "give the folder that graphkd distill named"),
    ("export run --formats safetensors --out run", "--out run is a run folder, whose files would be overwritten", "give another folder"),
    ("export run --formats onx", "unknown format 'onx'; did you mean 'onnx'?", "choose one of safetensors, onnx, torch"),
    ("export run --tolerance 0", "Invalid value \"0.0\" for --tolerance. Must be > 0", "--tolerance: largest difference"),
    ("export run --check nowhere", "\"nowhere\" for --check. \"nowhere\" does not exist", "--check: folder of images"),
    ("export run --int8 --formats torch", "--int8 is made from model.onnx", "add onnx to --formats"),
    ("export run --calibration photos", "--calibration is for --int8", "give --int8 too"),
    ("export run --int8 --calibration nowhere", "\"nowhere\" for --calibration. \"nowhere\" does not exist", "--calibration: folder of images"),
    ("store merge", "graphkd store merge needs a value of --parts", "--parts: the folders"),
    ("store merge photos", "graphkd store merge needs a value of --out", "--out: folder of the merged store"),
    ("store merge photos --out x", "expected several folders to merge, found 1", "give all of them"),
    ("store merge photos nowhere --out x", "there is no folder nowhere", "give the folders that graphkd embed wrote"),
    ("store repair nowhere --data photos", "\"nowhere\" for --path. \"nowhere\" does not exist", "--path: folder of the store"),
    ("store repair photos --data photos", "no teacher was given", "give --teacher ViT-B-32"),
    ("store info nowhere", "nowhere is no store: manifest.json is missing", "give the folder that graphkd embed --out wrote"),
    ("store info photos", "photos is no store: manifest.json is missing", "give the folder that graphkd embed --out wrote"),
]  # fmt: skip


@pytest.fixture
def place(tmp_path):
    """Files that are wrong in one way each."""
    texts = {
        "a.txt": "no braces\n", "typo.yaml": "epcohs: 3\n", "broken.yaml": "a: [\n", "list.yaml": "- a\n", "ten.yaml": "epochs: ten\n", "dashes.yaml": "batch-size: 8\nbatch_size: 9\n", "many.yaml": "k: 1\n#" * 12000, "big.yaml": f"epochs: {2**63}\n", "nines.yaml": "epochs: " + "9" * 5000, "aliases.yaml": "a: [&a 1, *a]\n",
        "twice.yaml": "epochs: 1\nepochs: 2\n", "other.yaml": "command: embed\n", "lonely.onnx": "", "list.csv": "", "run/student.json": "{", "made/config.json": "{", "made2/config.json": "{}",
        "code.yaml": "data: !!python/object/apply:os.system [exit 1]\n", "photos/cat/.keep": "",
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9 {}\n")
    return tmp_path


@pytest.mark.parametrize(("line", "what", "todo"), FIRST, ids=[line for line, _, _ in FIRST])
def test_what_is_wrong_and_what_to_do(graphkd, place, line, what, todo):
    answer = graphkd.refused(line, what, todo)
    assert (len(answer.err), answer.out) == (2, "")


def test_the_current_folder_is_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("student.json").write_text('{"num_classes": 0}')
    require_classifier(Path(), None)
    assert is_backbone(Path())


def test_none_of_these_loads_torch(place, process):
    code = (
        "import json, shlex, sys\nfrom graphkd.cli.main import main\n"
        "codes = [main(shlex.split(line)) for line in json.loads(sys.argv[1])]\n"
        "print(set(codes), [name for name in ('torch', 'numpy', 'torch_geometric', 'timm') if name in sys.modules])"
    )
    run = process("-c", code, json.dumps([line for line, _, _ in FIRST]))
    assert run.stdout == "{2} []\n", run.stderr


LATER = [  # found in the images, the teacher or the method, before the teacher sees an image
    ("embed --data loose --out x {t}", "tells classes apart by their names, and these images have none", "give --classes names.txt"),
    ("embed --data empty --out x {t}", "empty holds no image", "expected files that end in .avif"),
    ("embed --data codes --out x {t}", "class folders look like codes", "pass class names from a file with one line"),
    ("embed --data lonely --out x {t}", "one class is nothing to learn", "pass that folder, or --layout flat for unlabelled images"),
    ("embed --data images --out x {t} --device cuda:99", "there is no device 'cuda:99'", "give --device auto, or see graphkd doctor"),
    ("embed --data images --out x --teacher ViT-B-23 --pretrained openai", "unknown open_clip model 'ViT-B-23'; did you mean 'ViT-B-32'?", "choose one of ViT-B-32"),
    ("embed --data images --out x --teacher lite1", "unknown teacher 'lite1'; did you mean 'lite2'?", "choose one of lite"),
    ("embed --data images --out x --teacher resnet50 --pretrained default", "unknown teacher 'resnet50'; did you mean 'timm:resnet50'?", "choose one of timm:resnet50"),
    ("embed --data images --out x --teacher ViT-B-32", "'ViT-B-32' has no weights yet", "give --pretrained a tag (openai"),
    ("embed --data images --out x --teacher ViT-B-32 --pretrained opnai", "unknown pretrained tag of ViT-B-32 'opnai'; did you mean 'openai'?", "choose one of openai"),
    ("embed --data images --out x --teacher images", "images is a folder, and no run folder", "give the checkpoint file in it"),
    ("embed --data images --out x --teacher alone.safetensors", "alone.safetensors is a checkpoint, and there is no open_clip_config.json", "say what model it is, as in: give --teacher ViT-B-32 --pretrained alone.safetensors"),
    ("embed --data images --out x --teacher timm:resnet81 --pretrained default", "unknown teacher 'resnet81'; did you mean 'resnet18'?", "choose one of resnet18"),
    ("embed --data images --out x --teacher torchvision:resnet81 --pretrained default", "unknown teacher 'resnet81'; did you mean 'resnet18'?", "choose one of resnet18"),
    ("embed --data images --out x --teacher timm:test_resnet --pretrained nowhere.pt", "there is no file nowhere.pt", "give the path of a checkpoint"),
    ("embed --data images --out x --teacher timm:test_resnet --pretrained names.txt", "names.txt is no checkpoint of plain tensors", "give a safetensors file"),
    ("embed --data images --out x --teacher timm:test_resnet --pretrained alone.safetensors", "alone.safetensors does not fit ResNet", "Give the weights of the same architecture and 5 classes"),
    ("embed --data images --out x {t} --classes names.txt", "class names and class folders differ. Names without a folder: 'cat', 'dog'", "Each line is the name of one folder"),
    ("distill --data images {t} --student resnet81", "unknown student 'resnet81'; did you mean 'resnet18'?", "choose one of resnet18"),
    ("distill --data images {t} --optimizer admw", "unknown optimizer 'admw'; did you mean 'adamw'?", "choose one of adamw"),
    ("distill --data images {t} --trackers tensorbord", "unknown tracker 'tensorbord'; did you mean 'tensorboard'?", "choose one of"),
    ("distill --data images {t} --trackers clearml", "the tracker 'clearml' is not installed", "run pip install clearml, or leave clearml out of trackers"),
    ("distill --data images {t} --student test_efficientnet --size 32 --freeze blocks.0,conv_stm", "the pattern 'conv_stm' matches no layer of EfficientNet that has parameters; near it: conv_stem", "See student.model.named_modules()"),
    ("distill --data images {t} --student test_efficientnet --size 32 --freeze '*'", "leaves no parameter of the student to train", "name fewer layers"),
    ("distill --data images {t} --student test_efficientnet --size 32 --init alone.safetensors", "alone.safetensors does not fit EfficientNet: of", "Give the weights of the same architecture"),
    ("distill --data images {t} --student test_efficientnet --size 32 --init names.txt", "names.txt is no checkpoint of plain tensors", "give a safetensors file"),
    ("distill --data images {t} --student hf:loose", "the configuration of 'hf:loose' cannot be had", "Give a folder with the files that save_pretrained wrote"),
    ("embed --data images --out x --teacher hf:loose", "the configuration of 'hf:loose' cannot be had", "Give a folder with the files"),
    ("embed --data images --out x --teacher local-dir:loose", "local-dir:loose needs open_clip_config.json", "download both files"),
    ("embed --data tars --out x {t}", "tars/a.tar is no uncompressed tar file, or it is cut off", "restore it"),
    ("distill --data images {t} --batch-size 500", "--batch-size 500 is more than the 48 images to train on", "give --batch-size 48 or less"),
    ("distill --data images {t} --val loose", "loose holds loose images, and scoring needs their labels", "put them into one folder a class"),
    ("distill --data loose --classes names.txt {t} --labels task", "--labels task needs labelled images, and these have none", "give a folder"),
    ("distill --data images {t} --student test_efficientnet --size 32 --method prg --set rhoo=1", "unknown option of 'prg' 'rhoo'; did you mean 'rho'?", "choose one of"),
    ("distill --data images {t} --student test_efficientnet --size 32 --method prg --set preset=ega2", "unknown preset 'ega2'; did you mean 'ega'?", "choose one of ega, literal, relation, stable"),
    ("distill --data images {t} --student test_efficientnet --size 32 --method prg --set rho=abc", "prg does not take these options", "graphkd methods prg lists its options"),
    ("distill --data images {t} --student test_efficientnet --size 32 --method dkd", "dkd needs labels, and --labels is no", "add --labels method, or --labels task"),
    ("distill --data images {t} --student test_efficientnet --size 32 --method at", "at compares maps, and none are named", "give --student-maps and --teacher-maps"),
    ("distill --data images {t} --student test_efficientnet --size 32 --method at --teacher-maps layer1", "is no classifier and exposes no maps", "use --teacher timm:NAME"),
    ("compare broken damaged2", "broken/config.json is damaged", "remove it, or put a good copy back"),
    ("report broken", "broken/config.json is damaged", "remove it, or put a good copy back"),
    ("evaluate --data images --model damaged", "damaged/student.json is damaged", "train again, or restore the file"),
]  # fmt: skip


AT_ONCE = [  # of these, what the images and the files of the installed libraries tell without torch
    line
    for line, what, _ in LATER
    if any(part in what for part in (
        "unknown", "have none", "holds no image", "look like codes", "one class is", "has no weights yet", "is a folder",
        "is a checkpoint, and", "there is no file", "and class folders differ", "no uncompressed tar", "loose images",
    )) and "--labels" not in line
]  # fmt: skip


def test_names_and_folders_are_refused_before_torch_is_loaded(folders, process, teacher, teacher_checkpoint, tmp_path):
    (tmp_path / "alone.safetensors").write_bytes(teacher_checkpoint.read_bytes())
    code = (
        "import json, shlex, sys\nfrom graphkd.cli.main import main\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    code = main(shlex.split(line))\n"
        "    heavy = [name for name in ('torch', 'timm', 'open_clip') if name in sys.modules]\n"
        "    assert (code, heavy) == (2, []), (line, code, heavy)"
    )
    assert len(AT_ONCE) >= 20
    run = process("-c", code, json.dumps([line.format(t=teacher) for line in AT_ONCE]))
    assert run.returncode == 0, run.stderr
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def folders(tmp_path, class_folders, digits):
    """Images that are wrong in one way each."""
    for name in ("loose", "empty", "codes/n00", "codes/n01", "lonely/cat"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("loose/1.png", "codes/n00/1.png", "codes/n01/1.png", "lonely/cat/1.png"):
        digits.image(1).save(tmp_path / name)
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "a.tar").write_bytes(b"no archive" * 100)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "student.json").write_text("{")
    (tmp_path / "broken").mkdir()
    (tmp_path / "damaged2").mkdir()
    (tmp_path / "damaged2" / "config.json").write_text("{}")
    (tmp_path / "broken" / "config.json").write_text("{")


@pytest.mark.parametrize(("line", "what", "todo"), LATER, ids=[line for line, _, _ in LATER])
def test_what_the_images_and_networks_say(graphkd, folders, teacher, teacher_checkpoint, tmp_path, line, what, todo):
    (tmp_path / "alone.safetensors").write_bytes(teacher_checkpoint.read_bytes())
    graphkd.refused(line.format(t=teacher), what, todo)
    assert not (tmp_path / "runs").exists()  # nothing was begun


def test_an_image_that_cannot_be_read(graphkd, class_folders, teacher, tmp_path):
    (class_folders / "one" / "zz.png").write_text("no image")
    graphkd.refused(
        f"embed --data images --out x {teacher}",
        "cannot read image images/one/zz.png",
        "repair or remove it, or give --on-error skip",
    )


def test_a_refused_run_leaves_no_folder(graphkd, class_folders, teacher, tmp_path):
    (class_folders / "one" / "zz.png").write_text("no image")
    line = f"distill --data images {teacher} --student test_efficientnet --size 32 --store features"
    graphkd.refused(line, "cannot read image images/one/zz.png")
    assert not (tmp_path / "runs").exists()
    (tmp_path / "mine").mkdir()
    graphkd.refused(f"{line} --run mine", "cannot read image images/one/zz.png")
    assert (tmp_path / "mine").exists()


def test_a_run_folder_that_holds_a_run(graphkd, class_folders, teacher, tmp_path):
    (tmp_path / "held" / "checkpoints" / "update-00000001").mkdir(parents=True)
    todo = "add --resume to go on with it, or choose another --run"
    graphkd.refused(f"distill --data images {teacher} --run held", "held holds a run already", todo)


def test_a_head_that_nothing_trains(graphkd, class_folders, teacher, tmp_path):
    line = f"distill --data images {teacher} --student test_efficientnet --size 32 --method rkd"
    graphkd.refused(
        line, "it would stay untrained", "add --labels task, or choose a --method with a term on the logits"
    )
    assert not (tmp_path / "runs").exists()


def test_an_image_of_too_many_pixels(graphkd, class_folders, teacher, tmp_path):
    graphkd.refused(
        f"embed --data images --out x {teacher} --max-megapixels 0.00001",
        "which count as 0.01 megapixels; the limit is 1e-05 megapixels",
        "make the image smaller, allow it with --max-megapixels 0.01, or give --on-error skip",
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="with GPUs the processes would look for each other")
def test_processes_that_do_not_see_each_other(graphkd, class_folders, teacher, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = f"distill --data images {teacher} --student test_efficientnet --size 32 --run one"
    todo = "set ACCELERATE_USE_CPU=true for several processes without GPUs"
    graphkd.refused(line, "2 processes were started, and each sees only itself", todo)
    assert not (tmp_path / "one").exists()
