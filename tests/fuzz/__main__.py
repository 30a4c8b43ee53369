"""python -m tests.fuzz --seconds N --seed S: all layers at once, each in a process of its own."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.fuzz.h1_to_h2 import search_mixed
from tests.fuzz.h2_layer import search_h2
from tests.fuzz.h2_whole import search_h2_whole
from tests.fuzz.search import FINDINGS, search_pure, search_whole
from tests.fuzz.tls_layer import search_tls


def main() -> int:
    """Search, and say what was done; 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    searches = {
        "pure": search_pure,
        "whole": search_whole,
        "tls": search_tls,
        "h2": search_h2,
        "h2-whole": search_h2_whole,
        "h1-to-h2": search_mixed,
    }
    parser.add_argument("--only", choices=tuple(searches))
    options = parser.parse_args()
    chosen = [options.only] if options.only else list(searches)
    with ProcessPoolExecutor(len(chosen), mp_context=get_context("spawn")) as processes:
        running = [
            processes.submit(searches[name], options.seconds, options.seed) for name in chosen
        ]
        results = [one.result() for one in running]
    for result in results:
        print(result)
    if any(result.kinds for result in results):
        print(f"the failing inputs are in {FINDINGS.parent.name}/{FINDINGS.name}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
