"""Compares due times of random cron expressions with those of croniter.

Usage: croniter_compare.py INSTANTS [EXPRESSIONS [SEED]]

INSTANTS is the program of crates/schedule/examples/instants.rs. Half of the instants are near changes of
the clocks. A difference must be one of those in docs/schedules.md, which `explain` knows; others fail.
"""

import collections
import datetime
import functools
import random
import subprocess
import sys
import zoneinfo

import croniter

# Zones with whole hours, a half hour and odd offsets, on both hemispheres, with changes at midnight, and none.
ZONES = [
    "UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/Santiago", "America/Havana",
    "Australia/Lord_Howe", "Australia/Sydney", "Pacific/Chatham", "Asia/Kathmandu", "Africa/Casablanca",
    "America/St_Johns", "Asia/Tokyo",
]
COUNT = 6
FIRST, LAST = 1_767_225_600, 1_893_456_000  # 2026-01-01 and 2030-01-01
DAY = 86_400


def changes(zone):
    """Changes of a zone's offset, found by bisection: instant, seconds, whether whole hours are skipped or repeated."""
    offset = lambda at: int(datetime.datetime.fromtimestamp(at, zone).utcoffset().total_seconds())
    found = []
    for start in range(FIRST, LAST, DAY):
        low, high = start, start + DAY
        if offset(low) == offset(high):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
        delta = offset(high) - offset(low)
        is_whole = delta % 3600 == 0 and datetime.datetime.fromtimestamp(high, zone).minute == 0
        found.append((high, delta, is_whole))
    return found


def field(rng, low, high, names=()):
    """A random field of a cron expression."""
    def number():
        value = rng.randint(low, high)
        return rng.choice([str(value), names[value - low]]) if names else str(value)

    def span():
        first, last = sorted(rng.sample(range(low, high + 1), 2))
        return f"{first}-{last}"

    kind = rng.random()
    if kind < 0.35:
        return "*"
    if kind < 0.65:
        return number()
    if kind < 0.75:
        return f"*/{rng.randint(1, max(2, (high - low) // 2))}"
    if kind < 0.83:
        return span()
    if kind < 0.9:
        return f"{span()}/{rng.randint(1, 5)}"
    return ",".join(number() for _ in range(rng.randint(2, 4)))


def expression(rng):
    if rng.random() < 0.02:
        return rng.choice(["@hourly", "@daily", "@weekly", "@monthly", "@yearly"])
    months = "jan feb mar apr may jun jul aug sep oct nov dec".split()
    days = "sun mon tue wed thu fri sat".split()
    hours = rng.choice([(0, 23), (0, 4), (1, 3)])
    day = "*" if rng.random() < 0.5 else field(rng, 1, 31)
    month = "*" if rng.random() < 0.6 else field(rng, 1, 12, months)
    weekday = "*" if rng.random() < 0.5 else field(rng, 0, 6, days)
    return " ".join([field(rng, 0, 59), field(rng, *hours), day, month, weekday])


def of_croniter(text, zone, after):
    start = datetime.datetime.fromtimestamp(after, zone)
    try:
        due = croniter.croniter(text, start)
        return [int(due.get_next(datetime.datetime).timestamp()) for _ in range(COUNT)]
    except croniter.CroniterError as error:
        return f"! {error}"


def is_fixed(text):
    """Whether minute and hour are one number each: docs/schedules.md, When clocks change."""
    if text.startswith("@"):
        return text != "@hourly"
    values = croniter.croniter.expand(text)[0][:2]
    return all(len(value) == 1 and not set("*/") & set(part) for value, part in zip(values, text.split()))


def without_full_days(text):
    """Writes `*` for days in steps that croniter takes for `*`."""
    parts = text.split()
    for place in (2, 4):
        if len(parts) == 5 and croniter.croniter.expand(text)[0][place] == ["*"]:
            parts[place] = "*"
    return " ".join(parts)


def explain(text, want, changes, ask):
    """Whether the known differences explain croniter's answer `want`, and their names."""
    reasons = []
    plain = without_full_days(text)
    if plain != text:
        reasons.append("*/1 for a day beside steps for the other")
    got = ask(plain)
    again = lambda at, odd=False: any(
        -delta > at - change >= 0 and (is_whole is False or not odd) for change, delta, is_whole in changes)
    if is_fixed(text):
        if any(map(again, want)):
            reasons.append("fixed time in a repeated hour")
            want = [at for at in want if not again(at)]
    else:
        ends = {change for change, delta, _ in changes if delta > 0}
        if any(at in ends and at not in got for at in want):
            reasons.append("times in a gap")
            want = [at for at in want if at not in ends or at in got]
        if any(again(at, odd=True) and at not in want for at in got):
            reasons.append("repeated times that are no whole hour")
            got = [at for at in got if at in want or not again(at, odd=True)]
    common = min(len(got), len(want))
    return common >= COUNT // 2 and got[:common] == want[:common], reasons


def answers(program, cases):
    """Due times, or `!` and a reason, for each zone, instant and expression."""
    lines = "".join(f"{name}\t{after}\t{COUNT}\t{text}\n" for name, after, text in cases)
    output = subprocess.run([program], input=lines, stdout=subprocess.PIPE, check=True, text=True).stdout
    answered = [line if line.startswith("!") else [int(at) for at in line.split()] for line in output.splitlines()]
    assert len(answered) == len(cases), f"{len(answered)} answers to {len(cases)} lines"
    return answered


def main():
    program, *rest = sys.argv[1:]
    count = int(rest[0]) if rest else 10_000
    seed = int(rest[1]) if len(rest) > 1 else random.randrange(1 << 32)
    print(f"{count} expressions with seed {seed}")
    rng = random.Random(seed)
    # Its package of zones, which is as new as those compiled in, not those of the system.
    zoneinfo.reset_tzpath(to=[])
    zones = {name: zoneinfo.ZoneInfo(name) for name in ZONES}
    all_changes = {name: changes(zone) for name, zone in zones.items()}
    cases = []
    for _ in range(count):
        name = rng.choice(ZONES)
        after = rng.randrange(FIRST, LAST)
        if all_changes[name] and rng.random() < 0.5:
            after = rng.choice(all_changes[name])[0] + rng.randrange(-2 * DAY, DAY // 4)
        cases.append((name, after, expression(rng)))
    ours = answers(program, cases)
    known, wrong = collections.Counter(), []
    for (name, after, text), got in zip(cases, ours):
        want = of_croniter(text, zones[name], after)
        if got == want or "never due" in got and want == "! failed to find next date":
            known["equal"] += 1
            continue
        is_known, reasons = False, []
        if isinstance(want, list) and isinstance(got, list):
            ask = functools.cache(lambda plain: answers(program, [(name, after, plain)])[0])
            is_known, reasons = explain(text, want, all_changes[name], ask)
        if is_known:
            known.update(reasons)
            continue
        local = lambda times: times if isinstance(times, str) else [
            datetime.datetime.fromtimestamp(at, zones[name]).isoformat() for at in times]
        wrong.append(f"{name} after {after}: {text}\n  here     {local(got)}\n  croniter {local(want)}")
    for reason, number in known.most_common():
        print(f"{number:>8} {reason}")
    if wrong:
        print("\n".join(wrong[:20]))
        sys.exit(f"{len(wrong)} unknown differences")


if __name__ == "__main__":
    main()
