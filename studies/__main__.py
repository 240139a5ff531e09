"""`make study`: run the studies in two processes, keep every result, print what was promised and what was reached."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

# One thread per process, also in the processes to come: they compete for the cores as it is.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from studies import candles, coverage, edges, false_promotions, live, replacements
from studies.findings import Finding
from studies.progress import Progress
from studies.results import ROOT, ResultFile, code_fingerprint
from studies.study import Result, Study
from studies.table import print_json, print_table

FIRST_SEED = 1_000_000
"""Of the published figures; studies were developed on others."""
RESULTS = ROOT / "build" / "study" / "results.jsonl"
CANDLES = ROOT.parent / "shared" / "data"


def main() -> None:
    """Exit code 1 when a promise is not kept; a quick look with --markets judges none."""
    options = _options()
    studies = [study for study in all_studies(options.data) if _is_wanted(study, options.only)]
    others = _skipped(options)
    if not (studies or others):
        sys.exit(f"no study is called like {options.only}; there are {', '.join(_names(options.data))}")
    seeds = {study.name: range(options.first_seed, options.first_seed + _count(study, options)) for study in studies}
    results = collect(studies, seeds, options.results, options.processes)
    findings = [finding for study in studies for finding in study.conclude(results[study.name])]
    findings += others
    if options.markets:
        findings = [replace(finding, passed=None, note=f"a quick look; {finding.note}") for finding in findings]
    command = shlex.join(["make", "study", *([f"ARGS={shlex.join(sys.argv[1:])}"] if sys.argv[1:] else [])])
    (print_json if options.json else print_table)(findings, command)
    sys.exit(int(any(finding.passed is False for finding in findings)))


def all_studies(data: Path) -> list[Study]:
    """Every study there is; that of the candles only where they are."""
    recorded = [] if candles.missing_files(data) else candles.studies(data)
    return [
        *live.studies(), *coverage.studies(), *edges.studies(), *recorded, *replacements.studies(),
        *false_promotions.studies(),
    ]  # fmt: skip


def collect(studies: Sequence[Study], seeds: dict[str, range], path: Path, processes: int) -> dict[str, list[Result]]:
    """The results of all seeds, in order; those that the file knows already are taken from there."""
    file = ResultFile(path, code_fingerprint())
    known = file.known()
    missing = [(study, seed) for study in studies for seed in seeds[study.name] if (study.name, seed) not in known]
    progress = Progress(sum(study.weight for study, _ in missing))
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(study.run, seed): (study, seed) for study, seed in missing}
        try:
            for future in as_completed(waiting):
                study, seed = waiting[future]
                known[study.name, seed] = future.result()
                file.add(study.name, seed, known[study.name, seed])
                progress.finished(study.weight, f"{study.name}, seed {seed}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {study.name: [known[study.name, seed] for seed in seeds[study.name]] for study in studies}


def _skipped(options: argparse.Namespace) -> list[Finding]:
    missing = candles.missing_files(options.data)
    if not missing or not _matches("candles", options.only):
        return []
    note = f"SKIPPED: {', '.join(missing)} not found in {options.data}; name the folder with --data"
    print(f"candles: {note}", file=sys.stderr)
    return [
        Finding("candles", "candidates promoted at 0.75", "0", float("nan"), float("nan"), float("nan"), 0, None, note)
    ]


def _is_wanted(study: Study, only: Sequence[str]) -> bool:
    return _matches(study.name, only)


def _matches(name: str, only: Sequence[str]) -> bool:
    return not only or any(name.startswith(start) for start in only)


def _names(data: Path) -> list[str]:
    return [study.name for study in all_studies(data)]


def _count(study: Study, options: argparse.Namespace) -> int:
    return min(study.repetitions, options.markets) if options.markets else study.repetitions


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make study", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="studies whose name starts so; may be repeated")
    parser.add_argument("--markets", type=int, help="at most so many seeds of each study: a quick look, no proof")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="other seeds than the published ones")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="JSON lines in place of the table")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are kept; remove it to start anew")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("MODEL_SERVICE_STUDY_DATA", CANDLES)),
        help="folder of the recorded candles (MODEL_SERVICE_STUDY_DATA)",
    )  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    main()
