"""Run a study, or what is left of it, and print its tables.

    python -m benchmarks.accuracy caltech              # six methods, PRG by its terms, five paired seeds
    python -m benchmarks.accuracy caltech-prg          # ablation of PRG, three paired seeds
    python -m benchmarks.accuracy digits-prompts       # how prompts are weighted
    python -m benchmarks.accuracy caltech-eikd         # selection, class dropping, terms; eikd: on another pool
    python -m benchmarks.accuracy cifar100-full        # the full protocol, and cifar100-full-labels: for a GPU
    python -m benchmarks.accuracy STUDY --estimate     # how long it will take here
    python -m benchmarks.accuracy rerun FILE.json      # one run again: must give the very same number
    python -m benchmarks.accuracy report STUDY         # tables of what is there
    python -m benchmarks.accuracy page                 # all of them into docs/evidence.md

Results are kept, a JSON a run, and never computed twice. ``GRAPHKD_DATA`` names the folder of data.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from benchmarks.accuracy import page, studies
from benchmarks.accuracy.config import Config, grid
from benchmarks.accuracy.estimate import estimate
from benchmarks.accuracy.one import measure
from benchmarks.accuracy.report import picture, read
from benchmarks.accuracy.study import finish

RESULTS = Path(__file__).with_name("results")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*studies.STUDIES, "rerun", "report", "page"])
    parser.add_argument("name", nargs="?", help="of the study to report, or the file to run again")
    parser.add_argument("--seeds", type=int, help="paired seeds; default: the study's")
    parser.add_argument("--methods", help="some of its methods, separated by ';'; 'all' for those by flag too")
    parser.add_argument("--student", help="another student, such as small_vit")
    parser.add_argument("--epochs", type=int, help="another length")
    parser.add_argument("--batch", type=int, help="another size of the graph, at the same learning rate")
    parser.add_argument("--processes", type=int, default=2, help="runs side by side, a core each")
    parser.add_argument("--estimate", action="store_true", help="say how long it will take, and stop")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> None:
    """Run and report."""
    args = arguments()
    if args.what == "rerun":
        rerun(Path(args.name))
        return
    if args.what == "page":
        page.main(args.results)
        return
    name = args.name if args.what == "report" else args.what
    if name not in studies.STUDIES:
        raise SystemExit(f"no study {name!r}: choose among {', '.join(studies.STUDIES)}")
    study = studies.STUDIES[name]
    recipe = study.recipe(args.student, args.epochs, args.batch)
    configs = grid(name, study.chosen(args.methods), recipe, args.seeds or study.seeds)
    if args.what != "report":
        announce(study, configs, args.results, args.processes)
        if args.estimate:
            return
        finish(configs, args.results, args.processes)
    tell(study, configs, args.results)


def announce(study: studies.Study, configs: list[Config], results: Path, processes: int) -> None:
    """Say beforehand how long it will take."""
    waiting = [config for config in configs if not (results / config.file).is_file()]
    if waiting:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in each run
        minutes = estimate(waiting, study.problem, processes) / 60
        torch.set_num_threads(threads)
        print(f"{len(waiting)} runs, {processes} side by side: about {minutes:.0f} minutes in all", flush=True)


def tell(study: studies.Study, configs: list[Config], results: Path) -> None:
    """Print the tables and draw the picture."""
    scores, records = read(configs, results)
    if not scores:
        raise SystemExit("no results yet: run the study first")
    whole = f"## {study.title}\n\n{page.words(study, scores, records)}"
    print(whole)
    folder = results / configs[0].study
    (folder / "README.md").write_text(whole + "\n")
    picture(scores, folder / "scores.svg", study.title)


def rerun(path: Path) -> None:
    """Exit 1 unless the number comes out exactly as in the file."""
    kept = json.loads(path.read_text())
    again = measure(Config.of(kept["config"]))["result"]
    assert isinstance(again, dict)
    same = again["scores"] == kept["result"]["scores"]
    print(f"{path}: {kept['result']['top1']!r} then, {again['top1']!r} now: {'the same' if same else 'DIFFERENT'}")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
