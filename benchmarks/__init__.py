"""Timings as ratios against the bare library in the same run; `make bench` prints one JSON line per figure."""
