"""Run a study, or what is left of it, and print its tables.

    python -m benchmarks.accuracy caltech              # six methods, PRG by its terms, five paired seeds
    python -m benchmarks.accuracy caltech-prg          # ablation of PRG, three paired seeds
    python -m benchmarks.accuracy digits-prompts       # how prompts are weighted
    python -m benchmarks.accuracy caltech-eikd         # selection, class dropping, terms; eikd: on another pool
    python -m benchmarks.accuracy caltech-ega          # with labels, EGA's own setting; tin100-labels
    python -m benchmarks.accuracy caltech-eikd-2       # bucket, floor, attractors, terms that pull; tin100-eikd
    python -m benchmarks.accuracy cifar100-full        # the full protocol, and cifar100-full-labels: for a GPU
    python -m benchmarks.accuracy choose tin100-choice # weights, chosen on held-out training images; caltech-choice
    python -m benchmarks.accuracy tin100               # the chosen ones with fresh seeds; caltech-confirmed
    python -m benchmarks.accuracy STUDY --estimate     # how long it will take here
    python -m benchmarks.accuracy rerun STUDY --methods KD --seeds 1    # runs again: must give the very same numbers
    python -m benchmarks.accuracy report STUDY         # tables of what is there
    python -m benchmarks.accuracy page                 # all of them into docs/evidence.md and docs/evidence/

Results are kept, a line a run in ``results/STUDY.jsonl``, and never computed twice. ``GRAPHKD_DATA`` names the
folder of data.
"""

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.accuracy import choice, page, runs, studies
from benchmarks.accuracy.choice import RESULTS
from benchmarks.accuracy.config import Config, grid
from benchmarks.accuracy.report import of_methods, picture, read
from benchmarks.accuracy.runs import estimate, finish, measure, waiting


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*studies.STUDIES, "choose", "rerun", "report", "page"])
    parser.add_argument("name", nargs="?", help="of the study to choose by, to report or to run again")
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
    if args.what == "page":
        page.main(args.results)
        return
    name = args.name if args.what in ("choose", "report", "rerun") else args.what
    if name not in studies.STUDIES:
        raise SystemExit(f"no study {name!r}: choose among {', '.join(studies.STUDIES)}")
    study = studies.STUDIES[name]
    methods, seeds, first = study.chosen(args.methods), args.seeds or study.seeds, study.first_seed
    recipe = study.recipe(args.student, args.epochs, args.batch)
    if args.what == "rerun":
        kept = of_methods(name, args.results, methods, recipe)
        rerun([each for each in kept if first <= each.seed < first + seeds], args.results)
        return
    if args.what not in ("choose", "report") and (late := [each.label for each in methods if not each.name]):
        raise SystemExit(f"{', '.join(late)}: not chosen yet; python -m benchmarks.accuracy choose {study.chosen_in}")
    configs = grid(name, [each for each in methods if each.name], recipe, seeds, first)
    if args.what == "choose":
        configs = choose(study, configs, args.results, args.processes)
    elif args.what != "report":
        announce(study, configs, args.results, args.processes)
        if args.estimate:
            return
        finish(configs, args.results, args.processes)
    tell(study, configs, args.results)


def choose(study: studies.Study, configs: list[Config], results: Path, processes: int) -> list[Config]:
    """Run every trial, and the best of each family with all seeds; keep what won."""
    finish(configs, results, processes)
    labels = choice.finalists(read(configs, results)[0])
    again = [method for method in study.methods if method.label in labels]
    more = grid(configs[0].study, again, study.recipe(), choice.SEEDS, study.first_seed)
    finish(more, results, processes)
    whole = list({config.digest: config for config in [*configs, *more]}.values())
    print(choice.keep(configs[0].study, read(whole, results)[0], results))
    return whole


def announce(study: studies.Study, configs: list[Config], results: Path, processes: int) -> None:
    """Say beforehand how long it will take."""
    if todo := waiting(configs, results):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in each run
        minutes = estimate(todo, study.problem, processes) / 60
        torch.set_num_threads(threads)
        print(f"{len(todo)} runs, {processes} side by side: about {minutes:.0f} minutes in all", flush=True)


def tell(study: studies.Study, configs: list[Config], results: Path) -> None:
    """Print the tables and draw the picture."""
    scores, records = read(configs, results)
    if not scores:
        raise SystemExit("no results yet: run the study first")
    whole = f"## {study.title}\n\n{page.words(study, scores, records)}"
    print(whole)
    folder = results / configs[0].study  # not committed
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(whole + "\n")
    picture(scores, folder / "scores.svg", study.title)


def rerun(configs: list[Config], results: Path) -> None:
    """Exit 1 unless every number comes out exactly as it is kept."""
    known, same = runs.read(results, (config.study for config in configs)), bool(configs)
    for config in configs:
        kept, again = known[config.digest]["result"], measure(config)
        equal = again["scores"] == kept["scores"]
        same &= equal
        outcome = "the same" if equal else "DIFFERENT"
        print(f"{config.label}, seed {config.seed}: {kept['top1']!r} then, {again['top1']!r} now: {outcome}")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
