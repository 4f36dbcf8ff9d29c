"""How a call of run_all.py goes: bars in a terminal, plain lines elsewhere.

Standard library, and tqdm where there is a terminal.
Used by: execution.
"""

from __future__ import annotations

import functools
import shutil
import sys
import time

from terminator.runtime.text import terminal

SECONDS_BETWEEN_LINES = 30  # per notebook, where there is no terminal


class Progress:
    """An overall bar and one per running notebook in a terminal; plain lines elsewhere."""

    def __init__(self, total):
        self.total, self.count, self.bars, self.spoken = total, 0, {}, {}
        self.overall = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.tqdm = tqdm
            # tqdm shows nothing where a terminal does not know its size
            columns, rows = shutil.get_terminal_size()
            self.bar = functools.partial(tqdm, ncols=min(columns, 100), nrows=rows)
            self.overall = self.bar(total=total, unit="notebook", desc="all notebooks", position=0)

    def say(self, line):
        line = terminal(line)
        if self.overall is None:
            print(line, flush=True)
        else:
            self.tqdm.write(line)

    def start(self, name):
        self.spoken[name] = time.monotonic()
        if self.overall is None:
            self.say(f"{name}: started")
            return
        self.add_bar(name, "cell")

    def add_bar(self, name, unit):
        """A bar in the first line that is free."""
        used = {position for position, _ in self.bars.values()}
        position = next(number for number in range(1, len(used) + 2) if number not in used)
        self.bars[name] = position, self.bar(unit=unit, desc=name, position=position, leave=False)

    def cell(self, name, index, total):
        """Cell number `index` (from 0) of `total` begins."""
        if self.overall is not None:
            bar = self.bars[name][1]
            bar.total, bar.n = total, index
            bar.refresh()
        elif time.monotonic() - self.spoken[name] > SECONDS_BETWEEN_LINES:
            self.spoken[name] = time.monotonic()
            self.say(f"{name}: cell {index + 1} of {total}")

    def runs(self, news):
        """What the runs are doing that notebooks wait for.

        Args:
            news: of batch.beside.Beside.
        """
        for line in news["lines"]:
            self.say(f"[{news['done']}/{news['total']} runs] {line}")
        going = news["running"]
        if self.overall is None:
            for name, (epoch, epochs, reached) in going.items():
                self.run_line(name, f"{epoch}/{epochs}  {reached}".rstrip())
            return
        self.overall.set_postfix_str(f"{news['done']}/{news['total']} runs")
        for name in [name for name in self.bars if "/" in name and name not in going]:
            self.bars.pop(name)[1].close()
        for name, (epoch, epochs, reached) in going.items():
            if name not in self.bars:
                self.add_bar(name, "epoch")
            bar = self.bars[name][1]
            bar.total, bar.n = epochs, epoch
            bar.set_postfix_str(reached)

    def run_line(self, name, text):
        """A line for a run that has come further, now and then."""
        last, before = self.spoken.setdefault(name, (time.monotonic(), text))
        if text != before and time.monotonic() - last > SECONDS_BETWEEN_LINES:
            self.spoken[name] = time.monotonic(), text
            self.say(f"{name}: {text}")

    def tick(self):
        """Let the clocks of the bars go on during a long cell."""
        if self.overall is not None:
            for bar in (self.overall, *(bar for _, bar in self.bars.values())):
                bar.refresh()

    def end(self, name, text):
        self.count += 1
        if name in self.bars:
            self.bars.pop(name)[1].close()
        self.say(f"[{self.count}/{self.total}] {name}: {text}")
        if self.overall is not None:
            self.overall.update(1)

    def close(self):
        for _, bar in self.bars.values():
            bar.close()
        if self.overall is not None:
            self.overall.close()
