"""distill --dry-run: what a run would read and cost; nothing is left."""

from pathlib import Path

SMALL = "--student test_efficientnet --size 32 --no-flip --epochs 3 --batch-size 16 --trackers '' --watch 0"


def tree(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_tells_and_leaves_nothing(graphkd, class_folders, teacher, tmp_path):
    before = tree(tmp_path)
    found = graphkd.json(f"distill --data images {teacher} {SMALL} --store features --dry-run --quiet")
    assert tree(tmp_path) == before
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "features").exists()
    assert (found["images"], found["scored_images"], found["classes"], found["updates"]) == (48, 12, 5, 9)
    assert found["store_complete"] is False
    assert found["seconds"] > found["seconds_of_asking_the_teacher_for_the_store"] > 0
    assert found["run"] == "runs/images-1"


def test_a_complete_store_is_read_and_a_resumed_run_counts_what_is_left(graphkd, class_folders, teacher, tmp_path):
    graphkd(f"distill --data images {teacher} {SMALL} --store features --run one --quiet --no-report --epochs 2")
    before = tree(tmp_path)
    found = graphkd.json("distill --config one/run.yaml --resume --dry-run")
    assert (found["updates"], found["store_complete"]) == (0, True)
    assert found["seconds_of_asking_the_teacher_for_the_store"] == 0
    text = graphkd(f"distill --data images {teacher} {SMALL} --store features --dry-run --quiet").out
    assert "9 of 16 images, 3 epochs" in text
    assert "the store features, complete" in text
    assert tree(tmp_path) == before
    graphkd.refused("distill --config one/run.yaml --dry-run", "one holds a run already")


def test_the_option_is_not_kept(graphkd, class_folders, teacher):
    Path("dry.yaml").write_text("dry_run: true\n")
    graphkd(f"distill --config dry.yaml --data images {teacher} {SMALL} --quiet")
    graphkd(f"distill --config dry.yaml --no-dry-run --data images {teacher} {SMALL} --quiet --run two --no-report")
    assert "dry_run" not in Path("two/run.yaml").read_text()


def test_a_default_batch_is_smaller_where_an_epoch_would_be_one_update(graphkd, class_folders, teacher):
    small = SMALL.replace("--batch-size 16", "")
    found = graphkd(f"distill --data images {teacher} {small} --dry-run")
    assert "batch size 256 -> 32: there are 48 images to train on" in found.err
