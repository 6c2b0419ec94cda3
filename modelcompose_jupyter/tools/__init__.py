"""Python functions that a chat's model may call, and that jobs call."""

from .function_call import FunctionCall, Outcome
from .function_names import functions_by_name
from .function_step import FunctionStep
from .function_tool import FunctionTool
from .named_functions import NamedFunctions
from .results import error_text, plain_result, result_text
from .user_traceback import user_traceback

__all__ = [
    "FunctionCall",
    "FunctionStep",
    "FunctionTool",
    "NamedFunctions",
    "Outcome",
    "error_text",
    "functions_by_name",
    "plain_result",
    "result_text",
    "user_traceback",
]
