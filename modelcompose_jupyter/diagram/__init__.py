"""Pictures of workflows: which job waits for which or leads to it, and what each of them does.

- ``graph``: a workflow's jobs as nodes and edges
- ``words``: texts of these that fit and harm nothing; the graph in plain text
- ``layout``: where boxes stand and edges run
- ``svg``, ``mermaid``: the drawings
- ``states``: how jobs of a run are, as the drawing shows them
- ``diagram``: all of it, as a notebook shows it
"""

from .diagram import Diagram as Diagram
from .diagram import diagram as diagram
from .graph import MAX_JOBS as MAX_JOBS
from .graph import Link as Link
from .graph import Node as Node
