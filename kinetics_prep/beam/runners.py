"""Which Beam runner runs, and with which options."""

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners import create_runner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from kinetics_prep.errors import BadOption
from kinetics_prep.sources import without_secrets

_LOCAL = (None, "DirectRunner", "FnApiRunner")


def parse_options(arguments: list[str]) -> PipelineOptions:
    """Beam's options from the flags that are not ours.

    Raises:
      BadOption: for a flag that Beam does not know either, or a mode known to lose data.
    """
    options = PipelineOptions(arguments)
    known = options.get_all_options(drop_default=True)
    unknown = options.get_all_options(drop_default=True, retain_unknown_options=True).keys() - known.keys()
    words = [without_secrets(word) for word in arguments if not word.startswith("-")]
    if unknown or (words and not known):
        flags = ", ".join(sorted(f"--{name}" for name in unknown) or words)
        raise BadOption(f"{flags}: known neither to kinetics-prep nor to Apache Beam; see kinetics-prep flow --help")
    if options.view_as(DirectOptions).direct_running_mode == "multi_threading":
        raise BadOption(
            "--direct_running_mode=multi_threading silently loses elements in Beam 2.77; "
            "--workers gives as many threads without it"
        )
    _check_runner(options.view_as(StandardOptions).runner)
    return options


def _check_runner(name: str | None) -> None:
    try:
        if name not in _LOCAL:
            create_runner(name)
    except (ValueError, ImportError) as error:
        raise BadOption(f"--runner {name}: {str(error).splitlines()[0]}") from None


def pipeline(options: PipelineOptions) -> tuple[beam.Pipeline, bool]:
    """A pipeline on the runner that the options ask for, and whether it runs in this process.

    "DirectRunner" stands for Beam's FnApiRunner: the class of that name may hand a pipeline over
    to another runner, or try to download one.
    """
    runner = options.view_as(StandardOptions).runner
    if runner in _LOCAL:
        return beam.Pipeline(runner=FnApiRunner(), options=options), True
    return beam.Pipeline(options=options), False
