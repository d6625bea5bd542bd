"""Everything nmc says when it refuses: one class, one catalogue.

A message names the code, who (the user's layer name or file), what was measured, what is allowed and
what to do. The exit status belongs to the code, not to the place that raises it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """What ``nmc explain CODE`` prints: a title, the exit status, why it happens and what to do."""

    title: str
    exit_status: int
    explanation: str


def one_line(text: str) -> str:
    """The text without line breaks or terminal controls, whatever a layer or a file is called."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class NmcError(Exception):
    """A refusal that the user can act on.

    Args:
        code: a key of ``CATALOGUE``, such as ``"NMC-P03"``.
        who: the user's layer, file or option.
        problem: one clause that says what was measured and what is allowed.
        remedy: one clause that says what to do.
        measured, allowed: the two numbers, where there are two, for machine-readable output.
    """

    def __init__(
        self,
        code: str,
        who: str,
        problem: str,
        remedy: str = "",
        *,
        measured: float | None = None,
        allowed: float | None = None,
    ) -> None:
        if code not in CATALOGUE:
            raise KeyError(f"error code {code} is not in the catalogue")
        self.code = code
        self.who = who
        self.problem = problem
        self.remedy = remedy
        self.measured = measured
        self.allowed = allowed
        super().__init__(str(self))

    @property
    def exit_status(self) -> int:
        return CATALOGUE[self.code].exit_status

    def __str__(self) -> str:
        text = f"{self.code} {self.who}: {self.problem}"
        if self.remedy:
            text += f"; {self.remedy}"
        return one_line(text)


class InternalError(AssertionError):
    """nmc broke one of its own rules. Never the user's fault; shown with a traceback, exit status 70."""


EXIT_OK = 0
EXIT_GATE = 1
EXIT_USAGE = 2
EXIT_BAD_INPUT = 3
EXIT_DOES_NOT_FIT = 4
EXIT_NO_ENGINE = 5
EXIT_CANNOT_WRITE = 6
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130

CATALOGUE: dict[str, Entry] = {
    # U: how nmc was called
    "NMC-U01": Entry(
        "unknown option or argument", EXIT_USAGE, "The command line names something nmc does not know."
    ),
    "NMC-U02": Entry(
        "value out of range", EXIT_USAGE, "An option or argument has a value outside the allowed range."
    ),
    "NMC-U03": Entry(
        "unknown name",
        EXIT_USAGE,
        "A layer, profile, engine, chip or error code of that name does not exist.",
    ),
    # F: files
    "NMC-F01": Entry(
        "not a readable model file",
        EXIT_BAD_INPUT,
        "The file is missing, empty, truncated or of another format.",
    ),
    "NMC-F02": Entry(
        "unsafe file",
        EXIT_BAD_INPUT,
        "The file uses links, external storage or names that could reach outside of it.",
    ),
    "NMC-F03": Entry(
        "file too large",
        EXIT_BAD_INPUT,
        "The file declares more data than the limits in safeio.Limits allow.",
    ),
    "NMC-F04": Entry(
        "malformed model", EXIT_BAD_INPUT, "A field is missing, or has the wrong type, shape or number."
    ),
    "NMC-F05": Entry("unknown node type", EXIT_BAD_INPUT, "The file holds a node that nmc does not know."),
    "NMC-F06": Entry(
        "broken bundle",
        EXIT_BAD_INPUT,
        "A member of the bundle is missing, extra or does not match its checksum.",
    ),
    "NMC-F07": Entry(
        "unknown schema", EXIT_BAD_INPUT, "The bundle was written by another major version of nmc."
    ),
    # G: the graph that a front end reads
    "NMC-G01": Entry(
        "edge to a missing node", EXIT_BAD_INPUT, "An edge names a node that the graph does not hold."
    ),
    "NMC-G02": Entry(
        "node without input",
        EXIT_BAD_INPUT,
        "A node other than an input has no incoming edge; exporters that lose a '+' cause this.",
    ),
    "NMC-G03": Entry(
        "shape mismatch", EXIT_BAD_INPUT, "Two connected nodes, or two joined branches, disagree on a shape."
    ),
    "NMC-G04": Entry("value not finite", EXIT_BAD_INPUT, "A parameter holds NaN or infinity."),
    "NMC-G05": Entry(
        "unsupported construct",
        EXIT_BAD_INPUT,
        "The network uses something that nmc cannot lower for any chip.",
    ),
    "NMC-G06": Entry(
        "import profile needed",
        EXIT_BAD_INPUT,
        "The file does not say which discretisation its weights were trained with.",
    ),
    "NMC-G07": Entry(
        "import profile contradicts the file",
        EXIT_BAD_INPUT,
        "The numbers in the file do not fit the chosen profile or time step.",
    ),
    "NMC-G08": Entry("dead end", EXIT_BAD_INPUT, "A node's output reaches no output of the network."),
    "NMC-G09": Entry("cycle", EXIT_BAD_INPUT, "The graph has a loop that no spiking neuron delays."),
    # D: data
    "NMC-D01": Entry("bad data file", EXIT_BAD_INPUT, "The data file cannot be read or lacks a field."),
    "NMC-D02": Entry(
        "data of the wrong shape or kind",
        EXIT_BAD_INPUT,
        "The data do not fit the network's input, or the labels its classes.",
    ),
    "NMC-D03": Entry(
        "bad calibration data", EXIT_BAD_INPUT, "Calibration data are empty, not finite, constant or silent."
    ),
    # T: timing
    "NMC-T01": Entry(
        "path cannot be balanced",
        EXIT_DOES_NOT_FIT,
        "A path through the network cannot be given the delay that it needs.",
    ),
    # Q: quantization and ranges
    "NMC-Q01": Entry(
        "range exceeded", EXIT_DOES_NOT_FIT, "A sum can leave the chip's register; the static proof failed."
    ),
    "NMC-Q02": Entry(
        "value not representable",
        EXIT_DOES_NOT_FIT,
        "A threshold, bias or decay lies outside the chip's field.",
    ),
    "NMC-Q03": Entry(
        "not supported by the chip",
        EXIT_DOES_NOT_FIT,
        "The chip has no such neuron, reset, payload or synapse.",
    ),
    # P: partition
    "NMC-P01": Entry("too many cores", EXIT_DOES_NOT_FIT, "The network needs more cores than the chip has."),
    "NMC-P02": Entry(
        "one neuron exceeds a core",
        EXIT_DOES_NOT_FIT,
        "A single neuron's synapses exceed a core's synapse memory.",
    ),
    "NMC-P03": Entry(
        "too many input axons",
        EXIT_DOES_NOT_FIT,
        "Even the smallest tile needs more input axons than a core has.",
    ),
    "NMC-P04": Entry(
        "too many output axons",
        EXIT_DOES_NOT_FIT,
        "Even the smallest tile needs more output axons than a core has.",
    ),
    "NMC-P05": Entry(
        "mapping breaks a limit",
        EXIT_DOES_NOT_FIT,
        "The independent checker found a limit that the mapping breaks.",
    ),
    # C: chip files
    "NMC-C01": Entry(
        "unknown chip", EXIT_USAGE, "No chip of that name ships with nmc and no file has that path."
    ),
    "NMC-C02": Entry(
        "bad chip file",
        EXIT_BAD_INPUT,
        "The chip file has a syntax error, an unknown key or an impossible value.",
    ),
    # E: engines
    "NMC-E01": Entry(
        "engine not available",
        EXIT_NO_ENGINE,
        "The engine's packages, Python version or hardware are missing.",
    ),
    "NMC-E02": Entry(
        "engine failed", EXIT_NO_ENGINE, "The engine started but crashed or ran past its time limit."
    ),
    # W: writing and resources
    "NMC-W01": Entry("cannot write", EXIT_CANNOT_WRITE, "The output cannot be written."),
    "NMC-W02": Entry(
        "not enough memory", EXIT_CANNOT_WRITE, "The predicted memory exceeds what is allowed or there."
    ),
    # V: verification
    "NMC-V01": Entry("engines differ", EXIT_GATE, "Two engines do not agree; the first divergence is named."),
    "NMC-V02": Entry(
        "import changed the function",
        EXIT_GATE,
        "The imported network does not compute what its source computes on the same samples.",
    ),
    "NMC-V03": Entry(
        "gate failed", EXIT_GATE, "A metric got worse than a gate allows, or a report does not say it."
    ),
    # I: internal
    "NMC-I01": Entry("internal error", EXIT_INTERNAL, "nmc broke one of its own rules; please report it."),
}
