"""Single benchmarks at full size, most of them claims: values with targets.

    python benchmarks/claims.py                                  # all claims: hours
    python benchmarks/claims.py boundary divergence
    python benchmarks/claims.py strong --model mnist-pgd --images 500 --set eps=0.3
    python benchmarks/claims.py grid sampling                    # these have to be named

`--set NAME=VALUE` sets an option of one benchmark. `--model` is "digits" (trained here), a name in
`zoo/`, or as in `scotoma audit`. A distance is that of the returned image if a float32 forward pass
gives it another label; images that the model misclassifies are omitted, and failures count as
infinite.
"""

import argparse
import ast
import inspect
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

import scotoma
import strength
import synthesis
import training
import works
from compositions import compositions
from false_alarms import false_alarms
from harm import harm
from harness import ZOO, Claim, Options, command, known
from measuring import spending
from page import Section
from sampling import sampling
from scale import ranks, scale, shared_machine
from scotoma.attacks import ATTACKS
from scotoma.papers.running import reproduce
from scotoma.probes.masking.probe import Masking
from scotoma.utils.errors import InputError

TIMED = ",".join(name for name in ATTACKS if name not in ("transfer", "latent-descent"))
"""Attacks that need nothing but the model."""


def masking(options: Options) -> Iterator[Claim]:
    """Time of the masking probe on a robust MNIST model, whose images stay to the end."""
    model, count = options.model or str(ZOO / "mnist-pgd.safetensors"), options.images or 500
    probes = [Masking([str(ZOO / f"{name}.safetensors") for name in ("tramer-b", "tramer-d")])]
    with tempfile.TemporaryDirectory() as out, spending() as spent:
        report = scotoma.audit(model, "mnist", "linf:0.3", out=out, probes=probes, limit=count)
    passes = {kind: round(total / count) for kind, total in report.provenance["passes"].items()}
    print(f"  {report['masking'].headline} Passes an image: {passes}")
    yield Claim("seconds for 500 images on two cores", spent.wall * 500 / count, 180)


def tables(options: Options, names: str = "table2,table3") -> Iterator[Claim]:
    """Time of Tables 2 and 3 of Zhang et al. 2019 for 2,000 images, on two cores."""
    count = options.images or 100
    for name in names.split(","):
        for attack, minutes in (("strong", 20.0), ("cw-linf", 60.0)):
            with tempfile.TemporaryDirectory() as out, spending() as spent:
                item = f"zhang2019/{name}"
                (done,) = reproduce(item, Path(out), attack=attack, limit=count, say=print)
            done.show()
            scaled = spent.wall / 60 * 2000 / count
            yield Claim(f"{name}, {attack}: minutes for 2,000 images", scaled, minutes)


CLAIMS: dict[str, Callable[..., Section | Iterable[Claim]]] = {
    "optimum": strength.optimum,
    "carlini": strength.carlini,
    "strong": strength.strong,
    "rivals": strength.rivals,
    "minimum": strength.minimum,
    "linf": strength.linf,
    "boundary": strength.boundary,
    "synthesis": partial(synthesis.prediction, count=100, looped=4, memory=True),
    "attribution": partial(works.attribution, methods="integrated-gradients"),
    "passes": partial(works.passes, models="mnist-wong", attacks=TIMED, eps=1e-4),
    "masking": masking,
    "false-alarms": partial(false_alarms, zoo=True),
    "distance": partial(works.distance, queries=10_000, train=60_000),
    "divergence": partial(works.divergence, points=7_000),
    "tables": tables,
}
OTHERS: dict[str, Callable[..., Section | Iterable[Claim]]] = {
    "throughput": works.throughput,
    "training": partial(training.training, epochs=6),
    "scale": scale,
    "ranks": ranks,
    "shared-machine": shared_machine,
    "grid": strength.grid,
    "harm": harm,
    "compositions": compositions,
    "sampling": sampling,
}
"""Without a target, or very long; only when named."""
BENCHMARKS = CLAIMS | OTHERS


def text_of(name: str) -> str:
    """Return what a benchmark measures, and how."""
    benchmark = BENCHMARKS[name]
    return f"{name}: {inspect.getdoc(getattr(benchmark, 'func', benchmark))}"


def settings(name: str, texts: list[str]) -> dict[str, Any]:
    """Return NAME=VALUE as keywords of a benchmark: text, or a literal where its default is one."""
    parameters, given = inspect.signature(BENCHMARKS[name]).parameters, {}
    for text in texts:
        option, _, value = text.partition("=")
        known([option], list(parameters)[1:], f"--set: {name} has no option")
        is_text = isinstance(parameters[option].default, str)
        try:
            given[option] = value if is_text else ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise InputError(f"--set {text}: want a number, True or False") from None
    return given


def main(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "\n".join(text_of(name).partition("\n")[0] for name in BENCHMARKS)
    parser.add_argument("names", nargs="*", help="of those below; all with a target by default")
    for name, kind in (("model", str), ("data", str), ("images", int)):
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--repeats", type=int, default=2, help="the fastest run counts")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    given = vars(parser.parse_args())
    names, texts = given.pop("names") or list(CLAIMS), given.pop("set")
    options = Options(**given)
    for name in known(names, BENCHMARKS, "no benchmark"):
        print(text_of(name), flush=True)
        with spending() as spent, threadpool_limits(options.threads):
            try:
                done = BENCHMARKS[name](options, **settings(name, texts))
                if isinstance(done, Section):
                    print(f"\n{done}\n")
                for claim in done.claims if isinstance(done, Section) else done:
                    print(claim, flush=True)
            except InputError as error:
                if len(names) == 1:
                    raise
                print(f"  omitted: {error}")
        print(f"  {spent}\n", flush=True)


if __name__ == "__main__":
    command(main, __doc__)
