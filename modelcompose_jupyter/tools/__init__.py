"""Python functions that a chat's model may call."""

from .function_call import FunctionCall
from .function_tool import FunctionTool, function_tools
from .named_tools import NamedTools
from .results import error_text, result_text

__all__ = [
    "FunctionCall",
    "FunctionTool",
    "NamedTools",
    "error_text",
    "function_tools",
    "result_text",
]
