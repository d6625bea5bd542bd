"""The tracer's parts; ``nmc.frontend.trace`` is the door.

A module is run once on ``Value`` objects, which stand for tensors and know which node of the op graph they
are and what each of their axes means. torch hands every function that meets a Value to ``functions``; calls
of a framework's layers and neurons go to the tables in ``torch_nn``, ``spikingjelly``, ``snntorch``,
``norse``, ``sinabs`` and ``slayer``, found by the path of the class. No framework is imported.
"""
