"""What may be written in a document: every form that people have in hand, key by key.

These models describe the text as it stands: the flat form and the nested one, singular and plural.
``validator`` says which keys exclude each other, ``compiler`` brings all forms to one.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from .fields import (
    BY_MESSAGE_SHAPE,
    BY_SHAPE,
    IN_FULL,
    IN_SHORT,
    OF_TYPE,
    Alternatives,
    Boolean,
    Duration,
    FilledText,
    Identifier,
    Integer,
    Lookup,
    Meanings,
    MessageTemplate,
    Names,
    Number,
    OneOrMore,
    Prompt,
    Sees,
    Size,
    Strict,
    TemplateOr,
    TextField,
    by_type,
)
from .parameters import GenerationParameters
from .templates import Operator
from .types import OF_ONE_ROLE, ROLES, Role

Template = Any
JobType = Literal[
    "component", "action", "if", "switch", "for-each", "filter", "loop", "accumulate", "delay",
    "random-router",
]  # fmt: skip
JOB_TYPES = tuple(get_args(JobType))
Port = Annotated[Integer, Field(ge=1, le=65535), TemplateOr()]
Text = Annotated[TextField, TemplateOr()]
Result = Annotated[Template, Sees("output", "result", "response")]
"""What is made of what a component gave."""
Compared = (
    Annotated[
        Operator,
        Meanings(
            eq="Equal.",
            neq="Not equal.",
            gt="The input is greater.",
            gte="The input is greater, or equal.",
            lt="The input is less.",
            lte="The input is less, or equal.",
            in_="The input is an element of the value, or a part of its text.",
            not_in="The input is no element of the value, and no part of its text.",
            starts_with="The input's text begins with the value.",
            ends_with="The input's text ends with the value.",
            match="The value is a regular expression, and the input's text has a match.",
        ),
    ]
    | None
)
OfItself = Annotated[Template, Sees("job")]
JobId = Annotated[Identifier, Names("job")]

# Keys of model-compose that are accepted and change nothing here, each with the reason.
NO_EFFECT = {
    "streaming": "every run streams",
    "batch_size": "prompts are batched as they come",
    "preload": "a model loads at its first use and stays",
    "on_demand": "a model loads at its first use and stays",
    "low_cpu_mem_usage": "weights are always memory-mapped",
    "fast_tokenizer": "the fast tokenizer is used wherever there is one",
    "device_mode": "'device' alone decides",
    "runtime": "models run in the host's own process",
    "max_run_count": "a job runs once; one of type loop repeats",
}
ADAPTER_NO_EFFECT = {
    **dict.fromkeys(("precision", "quantization"), "an adapter takes that of its model"),
    "low_cpu_mem_usage": NO_EFFECT["low_cpu_mem_usage"],
}


_IDLE = "No effect: {}."


def _idle(reason: str) -> Any:
    """A key that changes nothing."""
    return Field(None, description=_IDLE.format(reason))


_ELSEWHERE = "it is for model-compose's own server"

_ROUTE = "The job that runs, or a value as 'output': {}."
_DEFAULT = "Whether it is the one where none is named."
_REVISION = "A branch, tag or commit of the repository."
_TOKEN = "A Hub access token; better ${env.HF_TOKEN}."
_CACHE_DIR = "Where downloads are kept."
_OFFLINE = "Never ask the network."


class CalledFunction(Strict):
    """What a call of a tool asks for."""

    name: Text = Field(description="The tool that is called.")
    arguments: Template = Field(None, description="Its arguments: a mapping, or the JSON of one.")


class ToolCall(Strict):
    """A call of a tool in a message of the assistant's."""

    id: Text | None = Field(None, description="What the tool's message names; made if unset.")
    type: Literal["function"] | None = Field(None, description="function, the one kind there is.")
    function: CalledFunction = Field(description="What is called, with what.")


class Message(Strict):
    """One message of a chat."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["content"]}, {"required": ["tool_calls"]}]}
    )

    role: Annotated[Role, TemplateOr()] = Field(
        description="Who speaks; 'developer' is another name of 'system'."
    )
    content: Template = Field(None, description="What is said.")
    tool_calls: (
        Annotated[
            list[
                Annotated[
                    Annotated[ToolCall, IN_FULL] | Annotated[MessageTemplate, IN_SHORT],
                    BY_MESSAGE_SHAPE,
                ]
            ],
            Field(min_length=1),
            OneOrMore(),
        ]
        | None
    ) = Field(None, description="What the assistant calls, in place of a reply or beside it.")
    tool_call_id: Text | None = Field(
        None, description="Which call a tool's message answers; the next one if unset."
    )
    name: Text | None = Field(None, description="Of a tool's message what was called.")
    reasoning_content: Template = Field(None, description="What the assistant thought.")

    @model_validator(mode="after")
    def _keys_fit(self) -> "Message":
        for key, role in OF_ONE_ROLE.items():
            if getattr(self, key) is not None and self.role in ROLES and self.role != role:
                raise PydanticCustomError(
                    "together",
                    "'{key}' is of the {owner}'s messages, and this one is the {role}'s",
                    {"key": key, "owner": role, "role": self.role},
                )
        if "content" not in self.model_fields_set and self.tool_calls is None:
            raise PydanticCustomError(
                "lacking", "'content' is missing", {"key": "content", "unless": "tool_calls"}
            )
        return self


class ActionFields(GenerationParameters):
    """One call of a model: the prompt, the parameters, and what becomes of the text."""

    text: Prompt | None = Field(
        None, description="The prompt, or a list of them. The same as 'prompt'."
    )
    prompt: Prompt | None = Field(
        None, description="The prompt, or a list of them. The same as 'text'."
    )
    messages: (
        Annotated[
            list[
                Annotated[
                    Annotated[Message, IN_FULL] | Annotated[MessageTemplate, IN_SHORT],
                    BY_MESSAGE_SHAPE,
                ]
            ],
            Field(min_length=1),
            OneOrMore(),
        ]
        | None
    ) = Field(
        None,
        description="A chat's messages. A text is one of the user's; an expression may give many.",
    )
    params: GenerationParameters | None = Field(
        None, description="Generation parameters; each may also stand beside 'params'."
    )
    output: Result = Field(None, description="What the action gives; ${output} is the text.")
    streaming: Any = _idle(NO_EFFECT["streaming"])
    batch_size: Any = _idle(NO_EFFECT["batch_size"])


class Action(ActionFields):
    """An action of a component, in the nested form."""

    id: Identifier | None = Field(None, description="What jobs call it, as their 'action'.")
    default: Boolean | None = Field(None, description=_DEFAULT)


class ModelSource(Strict):
    """Where a model comes from, in the long form."""

    provider: (
        Annotated[
            Literal["huggingface", "local", "bundled"],
            Meanings(
                huggingface="The Hugging Face Hub.",
                local="A folder or a file of this computer.",
                bundled="A model that ships with the package.",
            ),
        ]
        | None
    ) = Field(None, description="What it comes from; the other keys say so anyway.")
    repository: Text | None = Field(None, description="A repository id of the Hugging Face Hub.")
    path: Text | None = Field(None, description="A folder with the model, or a GGUF file.")
    file: Text | None = Field(
        None, description="The GGUF file of the repository or folder that is the model."
    )
    name: Text | None = Field(None, description="A model that ships with the package.")
    revision: Text | None = Field(None, description=_REVISION)
    token: Text | None = Field(None, description=_TOKEN)
    cache_dir: Text | None = Field(None, description=_CACHE_DIR)
    local_files_only: Annotated[Boolean, TemplateOr()] | None = Field(None, description=_OFFLINE)

    @property
    def given(self) -> list[str]:
        """What is written of repository, path and name, as the short form would have it."""
        path = self.path
        if path and not path.startswith(("/", ".", "~", "$")):
            path = f"./{path}"
        within = "" if self.file is None else f"/{self.file}"
        sources = (
            self.repository and f"{self.repository}{within}",
            path and f"{path.rstrip('/') if within else path}{within}",
            self.name and f"bundled:{self.name}",
        )
        return [each for each in sources if each is not None]


Model = Annotated[Annotated[ModelSource, IN_FULL] | Annotated[FilledText, IN_SHORT], BY_SHAPE]


class PeftAdapter(Strict):
    """A LoRA that is merged into a component's model."""

    type: Literal["lora"] | None = Field(None, description="lora, the one kind there is.")
    name: TextField | None = Field(None, description="What it is called in messages.")
    model: Model = Field(description="A Hub id, or a folder such as ./adapter.")
    weight: Annotated[Number, TemplateOr()] | None = Field(
        None, description="How much of it is added; 1 is all of it."
    )
    revision: Text | None = Field(None, description=_REVISION)
    token: Text | None = Field(None, description="A Hub access token; that of the model if unset.")
    precision: Any = _idle(ADAPTER_NO_EFFECT["precision"])
    quantization: Any = _idle(ADAPTER_NO_EFFECT["quantization"])
    low_cpu_mem_usage: Any = _idle(ADAPTER_NO_EFFECT["low_cpu_mem_usage"])


class ModelSettings(Strict):
    """How a component's model is fetched and loaded."""

    revision: Text | None = Field(None, description=_REVISION)
    token: Text | None = Field(None, description=_TOKEN)
    cache_dir: Text | None = Field(None, description=_CACHE_DIR)
    local_files_only: Annotated[Boolean, TemplateOr()] | None = Field(None, description=_OFFLINE)
    precision: (
        Annotated[
            Literal["auto", "float32", "float16", "bfloat16"],
            Meanings(
                auto="As the weights are stored.",
                float32="32 bits: the most exact, and twice the memory of 16.",
                float16="16 bits.",
                bfloat16="16 bits, with the range of float32.",
            ),
            TemplateOr(),
        ]
        | None
    ) = Field(None, description="The numbers that weights are: auto as they are stored.")
    device: Text | None = Field(
        None,
        description="auto takes CUDA, then MPS, then the CPU; or cpu, cuda, cuda:1, mps.",
        examples=["auto", "cpu", "cuda", "mps"],
    )
    driver: (
        Annotated[
            Literal["native", "huggingface"],
            Meanings(
                native="Kernels in C, on a CPU.",
                huggingface="transformers on torch, on any device.",
            ),
            TemplateOr(),
        ]
        | None
    ) = Field(
        None,
        description="What computes: kernels in C, or transformers on torch; the first that can.",
    )
    trust_remote_code: Boolean | None = Field(
        None, description="Run code from the model's repository. Only for sources you trust."
    )
    quantization: (
        Annotated[
            Literal["none", "auto", "int8", "int4"],
            Meanings(
                none="Weights as 'precision' says.",
                auto="In 8 bits, and then in 4, only where the weights would have no room.",
                int8="Weights of linear layers in 8 bits: about half the memory of 16.",
                int4="Weights of linear layers in 4 bits: about a quarter of the memory of 16.",
            ),
            TemplateOr(),
        ]
        | None
    ) = Field(
        None,
        description="int8 or int4 keeps the weights of linear layers in 8 or 4 bits;"
        " auto only where they would have no room.",
    )
    peft_adapters: Annotated[list[PeftAdapter], OneOrMore()] | None = Field(
        None, description="LoRA adapters, added to the model's weights as it is loaded."
    )
    draft_model: Text | None = Field(
        None, description="A smaller model of the same vocabulary that proposes tokens."
    )
    prompt_lookup: Annotated[Lookup, Field(ge=0, le=100), TemplateOr()] | None = Field(
        None, description="Propose tokens from the text so far: how many; true is 8, false none."
    )
    cache_budget: Annotated[Size, Field(gt=0), TemplateOr()] | None = Field(
        None, description="Memory for keys and values: 2GB, 500MB, or gigabytes."
    )
    cache_quantization: (
        Annotated[
            Literal["none", "int8"],
            Meanings(none="As they are computed.", int8="In 8 bits: about half the memory."),
            TemplateOr(),
        ]
        | None
    ) = Field(None, description="int8 keeps keys and values in 8 bits: about half the memory.")


ComponentType = Literal["model", "function", "workflow"]


class ModelComponent(ActionFields, ModelSettings):
    """A model and how to call it. The flat form holds its one action's keys directly."""

    id: Identifier | None = Field(None, description="What jobs call it, as their 'component'.")
    type: Annotated[
        ComponentType,
        Meanings(
            model="A model that generates text.",
            function="A Python function.",
            workflow="Another workflow, of this document or of another one.",
        ),
    ] = Field(description="What it is: a model, a Python function, or another workflow.")
    task: Annotated[
        Literal["text-generation", "chat-completion"],
        Meanings(
            text_generation="Goes on from a prompt: 'text' says which.",
            chat_completion="Replies to a conversation: 'messages' says which.",
        ),
    ] = Field(description="What the model does: go on from a text, or reply to a chat.")
    model: Model = Field(
        description="A Hub id such as HuggingFaceTB/SmolLM3-3B, a folder such as ./model, "
        "or bundled:storyteller.",
    )
    peft_adapter: Annotated[list[PeftAdapter], OneOrMore()] | None = Field(
        None, description="A LoRA adapter, or a list of them. The same as 'peft_adapters'."
    )
    default: Boolean | None = Field(None, description=_DEFAULT)
    chat_template: FilledText | None = Field(
        None,
        description="A chat's template in place of the model's own: Jinja, or a file such as"
        " ./chat.jinja.",
    )
    max_concurrent_count: Annotated[Integer, Field(ge=0)] | None = Field(
        None, description="How many requests run at once; 0 is no limit."
    )
    action: Action | None = Field(None, description="How the model is called.")
    actions: Annotated[list[Action], Field(min_length=1), OneOrMore()] | None = Field(
        None, description="Several ways of calling the model, each with an id."
    )
    preload: Any = _idle(NO_EFFECT["preload"])
    on_demand: Any = _idle(NO_EFFECT["on_demand"])
    low_cpu_mem_usage: Any = _idle(NO_EFFECT["low_cpu_mem_usage"])
    fast_tokenizer: Any = _idle(NO_EFFECT["fast_tokenizer"])
    device_mode: Any = _idle(NO_EFFECT["device_mode"])
    runtime: Any = _idle(NO_EFFECT["runtime"])


class FunctionComponent(Strict):
    """A Python function, as a step of workflows."""

    id: Identifier | None = Field(None, description="What jobs call it, as their 'component'.")
    type: Literal["function"] = Field(description="function: a function of Python's.")
    function: Annotated[FilledText, Names("function")] = Field(
        description="Its name, of a function of the notebook's; or module:name, of a module beside"
        " the document.",
    )
    output: Result = Field(None, description="What it gives; ${output} is what came back.")
    default: Boolean | None = Field(None, description=_DEFAULT)
    max_concurrent_count: Annotated[Integer, Field(ge=0)] | None = Field(
        None, description="How many calls run at once; 0 is no limit."
    )


class WorkflowComponent(Strict):
    """Another workflow, as a step of workflows."""

    id: Identifier | None = Field(None, description="What jobs call it, as their 'component'.")
    type: Literal["workflow"] = Field(description="workflow: another workflow.")
    workflow: Annotated[Identifier, Names("workflow")] | None = Field(
        None, description="The id of the workflow; the default one if unset."
    )
    file: (
        Annotated[
            Annotated["Compose", IN_FULL] | Annotated[FilledText, IN_SHORT],
            BY_SHAPE,
            WithJsonSchema({"type": "string", "minLength": 1}),
        ]
        | None
    ) = Field(None, description="Another document that has the workflow, such as ./other.yml.")
    input: Template = Field(None, description="What it gets as its input; all of it if unset.")
    output: Result = Field(None, description="What it gives; ${output} is what came back.")
    default: Boolean | None = Field(None, description=_DEFAULT)
    max_concurrent_count: Annotated[Integer, Field(ge=0)] | None = Field(
        None, description="How many calls run at once; 0 is no limit."
    )


Component = Annotated[
    Annotated[ModelComponent, Tag(OF_TYPE + "model")]
    | Annotated[FunctionComponent, Tag(OF_TYPE + "function")]
    | Annotated[WorkflowComponent, Tag(OF_TYPE + "workflow")],
    Discriminator(by_type("model", ("function", "workflow"))),
]


class Route(Strict):
    """Where a job leads: to another job, to a value, or both."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["to"]}, {"required": ["output"]}]}
    )

    to: JobId | None = Field(None, description="The id of the job that runs next.")
    output: Template = Field(None, description="What this job gives.")

    @model_validator(mode="after")
    def _leads_somewhere(self) -> "Route":
        if self.model_fields_set.isdisjoint(("to", "output")):
            raise PydanticCustomError(
                "lacking", "'output' is missing", {"key": "output", "unless": "to"}
            )
        return self


RouteOrJob = Annotated[Annotated[Route, IN_FULL] | Annotated[JobId, IN_SHORT], BY_SHAPE]


class Retry(Strict):
    """How often a job that fails is tried again."""

    max_attempt_count: Annotated[Integer, Field(ge=1, le=100)] = Field(
        description="How often it is tried, the first time among them."
    )
    delay: Annotated[Duration, Field(ge=0)] | None = Field(
        None, description="How long to wait before the next time: 2, 500ms, 1m. None if unset."
    )
    backoff: (
        Annotated[
            Literal["fixed", "exponential"],
            Meanings(fixed="Always as long.", exponential="Twice as long each time."),
        ]
        | None
    ) = Field(None, description="How the delay grows; fixed if unset.")
    max_delay: Annotated[Duration, Field(ge=0)] | None = Field(
        None, description="The longest that it grows to."
    )


class Test(Strict):
    """A comparison, or several of them."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["input", "value"]},
                {"required": ["all"]},
                {"required": ["any"]},
                {"required": ["not"]},
            ],
        }
    )

    input: Template = Field(None, description="What is compared.")
    operator: Compared = Field(None, description="How it is compared; eq if unset.")
    value: Template = Field(None, description="What it is compared with.")
    all: Annotated[list["Test"], Field(min_length=1), OneOrMore()] | None = Field(
        None, description="Comparisons that must all hold."
    )
    any: Annotated[list["Test"], Field(min_length=1), OneOrMore()] | None = Field(
        None, description="Comparisons of which one must hold."
    )
    not_: "Test | None" = Field(None, alias="not", description="A comparison that must not hold.")

    @model_validator(mode="after")
    def _is_one(self) -> "Test":
        if self.model_fields_set.isdisjoint(("input", "all", "any", "not_")):
            raise PydanticCustomError(
                "lacking", "'input' is missing", {"key": "input", "unless": "all"}
            )
        if "input" in self.model_fields_set and "value" not in self.model_fields_set:
            raise PydanticCustomError(
                "lacking", "'value' is missing", {"key": "value", "unless": "all"}
            )
        return self


class Interrupt(Strict):
    """A question to a person: the run waits for the answer."""

    message: Template = Field(None, description="What is asked.")
    choices: Template = Field(
        None, description="The answers that there are, a list; anything is an answer if unset."
    )
    condition: Test | None = Field(None, description="When it is asked; always if unset.")
    metadata: Template = Field(None, description="A mapping that is shown beside the question.")
    timeout: Annotated[Duration, Field(gt=0, le=7 * 86400)] | None = Field(
        None, description="How long it waits for an answer, then the job fails; 1h if unset."
    )


InterruptOrNot = Annotated[Annotated[Interrupt, IN_FULL] | Annotated[Boolean, IN_SHORT], BY_SHAPE]


class Interrupts(Strict):
    """Where a run waits for a person."""

    before: InterruptOrNot | None = Field(
        None, description="Ask before the job runs; the answer takes the place of its input."
    )
    after: InterruptOrNot | None = Field(
        None, description="Ask when the job has run; the answer takes the place of its output."
    )


class JobKeys(Strict):
    """What jobs of all types have."""

    input: Template = Field(None, description="What the job gets as its input.")
    output: Annotated[Template, Sees("output")] = Field(
        None, description="What the job gives; ${output} is what came back."
    )
    depends_on: Annotated[list[Alternatives], OneOrMore(), Names("job")] | None = Field(
        None,
        description="Jobs that must end first; of a list within the list one is enough. A job waits"
        " for jobs it refers to anyway.",
    )
    retry: (
        Annotated[
            Annotated[Retry, IN_FULL]
            | Annotated[Annotated[Integer, Field(ge=1, le=100)], IN_SHORT],
            BY_SHAPE,
        ]
        | None
    ) = Field(None, description="How often it is tried when it fails: a number, or more of it.")
    on_error: (
        Annotated[
            Annotated[Route, IN_FULL] | Annotated[Identifier, IN_SHORT], BY_SHAPE, Sees("error")
        ]
        | None
    ) = Field(
        None,
        examples=["ignore"],
        description="What happens when it has failed: ignore, a value as 'output', another job as"
        " 'to'. ${error.message} says why.",
    )
    timeout: Annotated[Duration, Field(gt=0)] | None = Field(
        None, description="How long one attempt may take, such as 30s; then it has failed."
    )
    interrupt: Annotated[Interrupts, Sees("job")] | None = Field(
        None, description="Wait for a person's answer, before the job or after it."
    )
    max_run_count: Any = _idle(NO_EFFECT["max_run_count"])


class JobFields(JobKeys):
    """One call of a component: with what, how often, and what becomes of it."""

    component: (
        Annotated[
            Annotated[Component, IN_FULL]
            | Annotated[Annotated[Identifier, Names("component")], IN_SHORT],
            BY_SHAPE,
        ]
        | None
    ) = Field(None, description="A component's id, or a component written in place.")
    action: Annotated[Identifier, Names("action")] | None = Field(
        None, description="The id of one of its actions."
    )
    input: Template = Field(None, description="What the component gets as ${input}.")
    repeat_count: Annotated[Integer, Field(ge=1), TemplateOr()] | None = Field(
        None, description="Run so many times, ${index} from 0; the output is a list."
    )


class NamedJob(JobKeys):
    """A job of a workflow, in the nested form."""

    id: Identifier | None = Field(
        None, description="What other jobs call it: ${jobs.ID.output} is what it gave."
    )
    name: TextField | None = Field(None, description="A name for people; not shown here.")


class Job(NamedJob, JobFields):
    """A job that calls a component."""

    type: (
        Annotated[
            JobType,
            Meanings(
                component="It calls a component.",
                action="The same as component.",
                if_="Leads to one of two jobs or values.",
                switch="Leads to the job or value of a case.",
                for_each="Runs an inner job for each element of a list.",
                filter="Keeps some elements of a list.",
                loop="Runs an inner job until a condition holds.",
                accumulate="Runs an inner job for each element, with what the last one gave.",
                delay="Waits.",
                random_router="Leads to one of several jobs by chance.",
            ),
        ]
        | None
    ) = Field(None, description="What a job does: it calls a component, if unset.")


class IfCondition(Strict):
    """A comparison, and where it leads."""

    input: OfItself = Field(None, description="What is compared; the job's input if unset.")
    operator: Compared = Field(None, description="How it is compared; eq if unset.")
    value: OfItself = Field(None, description="What it is compared with.")
    if_true: RouteOrJob | None = Field(None, description=_ROUTE.format("where it holds"))
    if_false: RouteOrJob | None = Field(None, description=_ROUTE.format("where it does not hold"))


class IfJob(NamedJob):
    """A job that leads to one of two jobs or values."""

    type: Literal["if"] = Field(description="if: leads to one of two jobs or values.")
    input: Template = Field(None, description="What is compared.")
    operator: Compared = Field(None, description="How it is compared; eq if unset.")
    value: OfItself = Field(None, description="What it is compared with.")
    if_true: RouteOrJob | None = Field(None, description=_ROUTE.format("where it holds"))
    if_false: RouteOrJob | None = Field(None, description=_ROUTE.format("where it does not hold"))
    conditions: Annotated[list[IfCondition], Field(min_length=1), OneOrMore()] | None = Field(
        None, description="Several comparisons: the first that leads somewhere counts."
    )
    otherwise: RouteOrJob | None = Field(
        None, description=_ROUTE.format("where no comparison leads anywhere")
    )


class Case(Strict):
    """A value, and where it leads."""

    value: OfItself = Field(description="What the job's input is compared with.")
    then: RouteOrJob = Field(description=_ROUTE.format("where they are equal"))


class SwitchJob(NamedJob):
    """A job that leads to the job or value of a case."""

    type: Literal["switch"] = Field(description="switch: leads to the job or value of a case.")
    input: Template = Field(description="What is compared with the cases' values.")
    cases: Annotated[list[Case], Field(min_length=1), OneOrMore()] = Field(
        description="The cases: the first whose value is equal counts."
    )
    otherwise: RouteOrJob | None = Field(None, description=_ROUTE.format("where no case is equal"))


class Routing(Route):
    """One of the ways that a router may choose."""

    weight: Annotated[Number, Field(ge=0), TemplateOr()] | None = Field(
        None, description="How often it is chosen beside the others; 1 if unset."
    )


class RandomRouterJob(NamedJob):
    """A job that leads to one of several jobs or values by chance."""

    type: Literal["random-router"] = Field(description="random-router: leads somewhere by chance.")
    routings: Annotated[list[Routing], Field(min_length=1), OneOrMore()] = Field(
        description="The ways that there are. The run's seed says which one is taken."
    )
    mode: (
        Annotated[
            Literal["uniform", "weighted"],
            Meanings(uniform="All ways are as likely.", weighted="As their weights say."),
        ]
        | None
    ) = Field(None, description="weighted goes by 'weight', as it does where one is written.")
    session: Template = Field(None, description="The same session always goes the same way.")
    salt: Template = Field(None, description="Another salt sends sessions other ways.")


class ForEachJob(NamedJob):
    """A job that runs an inner job for each element of a list."""

    type: Literal["for-each"] = Field(description="for-each: an inner job for each element.")
    input: Template = Field(description="The list.")
    do: Annotated["AnyJob", Sees("item", "index")] = Field(
        description="The inner job: ${item} is the element, ${index} its place."
    )
    batch_size: Annotated[Integer, Field(ge=1), TemplateOr()] | None = Field(
        None, description="How many elements at once; as many as are good for speed if unset."
    )
    streaming: Any = _idle(NO_EFFECT["streaming"])


class FilterJob(NamedJob):
    """A job that keeps some elements of a list."""

    type: Literal["filter"] = Field(description="filter: keeps some elements of a list.")
    input: Template = Field(description="The list.")
    where: Annotated[Test, Sees("item", "index")] | None = Field(
        None, description="What holds for elements that stay: of ${item} and ${index}."
    )
    streaming: Any = _idle(NO_EFFECT["streaming"])


class LoopJob(NamedJob):
    """A job that runs an inner job again with what it gave, until a condition holds."""

    type: Literal["loop"] = Field(description="loop: an inner job, again with what it gave.")
    input: Template = Field(None, description="What the first round gets.")
    do: Annotated["AnyJob", Sees("output", "iteration")] = Field(
        description="The inner job: ${output} is what the round before gave, ${input} the loop's"
        " input, ${iteration} the round, from 0."
    )
    until: Annotated[Test, Sees("output", "iteration")] | None = Field(
        None, description="After a round, what ends the loop: of ${output}."
    )
    while_: Annotated[Test, Sees("output", "iteration")] | None = Field(
        None, alias="while", description="After a round, what must hold for another one."
    )
    max_iteration_count: Annotated[Integer, Field(ge=1, le=10_000), TemplateOr()] = Field(
        description="The most rounds that there are, whatever the condition says."
    )


class AccumulateJob(NamedJob):
    """A job that runs an inner job for each element in turn, with what the last one gave."""

    type: Literal["accumulate"] = Field(description="accumulate: goes through a list, in turn.")
    input: Template = Field(description="The list.")
    accumulator: Template = Field(None, description="What ${accumulator} is at the first element.")
    do: Annotated["AnyJob", Sees("item", "index", "accumulator")] = Field(
        description="The inner job: ${item} is the element, ${accumulator} what the last one gave."
    )


class DelayJob(NamedJob):
    """A job that waits."""

    type: Literal["delay"] = Field(description="delay: waits, and gives its input.")
    mode: (
        Annotated[
            Literal["time-interval", "specific-time"],
            Meanings(time_interval="As long as 'duration'.", specific_time="Until 'time'."),
        ]
        | None
    ) = Field(None, description="What it waits for; what is written says so anyway.")
    duration: Annotated[Duration, Field(ge=0), TemplateOr()] | None = Field(
        None, description="How long: 30, 500ms, 5m, 1h."
    )
    time: Template = Field(None, description="Until when, such as 2026-12-24T18:00.")
    timezone: Text | None = Field(
        None, description="Of a time without one: UTC, Asia/Seoul; this computer's if unset."
    )


AnyJob = Annotated[
    Annotated[Job, Tag(OF_TYPE + "component")]
    | Annotated[IfJob, Tag(OF_TYPE + "if")]
    | Annotated[SwitchJob, Tag(OF_TYPE + "switch")]
    | Annotated[ForEachJob, Tag(OF_TYPE + "for-each")]
    | Annotated[FilterJob, Tag(OF_TYPE + "filter")]
    | Annotated[LoopJob, Tag(OF_TYPE + "loop")]
    | Annotated[AccumulateJob, Tag(OF_TYPE + "accumulate")]
    | Annotated[DelayJob, Tag(OF_TYPE + "delay")]
    | Annotated[RandomRouterJob, Tag(OF_TYPE + "random-router")],
    Discriminator(by_type("component", JOB_TYPES)),
]


class Workflow(JobFields):
    """A workflow. The flat form holds its one job's keys directly."""

    id: Identifier | None = Field(None, description="What callers and the run API call it.")
    name: TextField | None = Field(None, description="A name for people, where it has no title.")
    title: TextField | None = Field(None, description="What forms, pages and lists call it.")
    description: TextField | None = Field(
        None, description="A sentence or two about it, shown below the title."
    )
    default: Boolean | None = Field(None, description=_DEFAULT)
    private: Boolean | None = Field(None, description="Leave it out of lists and pages.")
    job: AnyJob | None = Field(None, description="The one step of the workflow.")
    jobs: Annotated[list[AnyJob], Field(min_length=1), OneOrMore()] | None = Field(
        None,
        description="The steps of the workflow; those that need no other's output run at once.",
    )


class Address(Strict):
    """Where something listens."""

    host: Text | None = Field(None, description="The address to listen on; 127.0.0.1 if unset.")
    port: Port | None = Field(
        None, description="The port to listen on; 8080, and 8081 for the page, if unset."
    )


class WebUI(Address):
    """The page with the workflows' forms."""

    driver: TextField | None = _idle(_ELSEWHERE)
    static_dir: Any = _idle(_ELSEWHERE)
    server_dir: Any = _idle(_ELSEWHERE)


class Api(Address):
    """Where the run API is."""

    base_path: Text | None = Field(
        None, description="What the paths of the run API begin with; /api if unset."
    )
    origins: Annotated[list[Text], OneOrMore()] | None = Field(
        None, description="Pages that may call from elsewhere, such as https://example.org."
    )


class Adapter(Api):
    """How the run API is offered."""

    type: Literal["http-server"] = Field(description="http-server, the one kind there is here.")
    websocket: Any = _idle(_ELSEWHERE)


class Replicas(Strict):
    """How many replicas there are."""

    min: Annotated[Integer, Field(ge=1)] | None = Field(
        None, description="At least; one for each GPU of the cluster, or each node, if unset."
    )
    max: Annotated[Integer, Field(ge=1)] | None = Field(
        None, description="At most, where there is much to do; as many as at least if unset."
    )


class Resources(Strict):
    """What each replica needs. Other keys are resources of the cluster's own."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Number]

    cpu: Annotated[Number, Field(ge=0)] | None = Field(None, description="Cores; 1 if unset.")
    gpu: Annotated[Number, Field(ge=0)] | None = Field(
        None, description="GPUs, or a part of one; 1 if unset, where the cluster has any."
    )
    memory: Size | None = Field(None, description="Such as 16GB.")


class RayRuntime(Strict):
    """Replicas of the host in a cluster that Ray keeps."""

    type: Literal["ray"] = Field("ray", description="ray; others have no effect.")
    address: Text | None = Field(
        None,
        description="Of the cluster: auto is the one that this machine belongs to. One is started "
        "on this machine if unset.",
    )
    replicas: Replicas | None = Field(None, description="How many replicas there are.")
    resources: Resources | None = Field(None, description="What each replica needs.")


def _is_ray(runtime: Any) -> str:
    of = runtime.get("type") if isinstance(runtime, Mapping) else runtime
    return "mapping" if of == "ray" or isinstance(of, RayRuntime) else "plain"


def _in_full(runtime: Any) -> Any:
    return {"type": runtime} if isinstance(runtime, str) else runtime


class Controller(Api):
    """How the workflows are served. The flat form holds its one adapter's keys directly."""

    type: Literal["http-server"] | None = Field(
        None, description="http-server, the one kind there is here."
    )
    name: TextField | None = Field(None, description="A name for people.")
    websocket: Any = _idle(_ELSEWHERE)
    adapter: Adapter | None = Field(None, description="How the run API is offered.")
    adapters: Annotated[list[Adapter], Field(min_length=1), OneOrMore()] | None = Field(
        None, description="How the run API is offered: a list of one."
    )
    webui: WebUI | None = Field(None, description="The page with the workflows' forms.")
    runtime: (
        Annotated[
            Annotated[RayRuntime, BeforeValidator(_in_full), IN_FULL] | Annotated[Any, IN_SHORT],
            Discriminator(_is_ray),
        ]
        | None
    ) = Field(None, description="Where models run: 'type: ray' has replicas of the host.")
    max_concurrent_count: Annotated[Integer, Field(ge=0)] | None = _idle(_ELSEWHERE)
    shutdown_pending_period: Any = _idle(_ELSEWHERE)
    shutdown_timeout: Any = _idle(_ELSEWHERE)
    threaded: Any = _idle(_ELSEWHERE)
    queue: Any = _idle(_ELSEWHERE)


class Compose(Strict):
    """A model-compose document. Keys that begin with ``x-`` are yours, for YAML anchors say."""

    name: TextField | None = Field(None, description="What you call the document.")
    controller: Controller | None = Field(
        None, description="How the workflows are served: the port of the run API and of the page."
    )
    component: Component | None = Field(None, description="A model, and how to call it.")
    components: Annotated[list[Component], Field(min_length=1), OneOrMore()] | None = Field(
        None, description="Several models, each with an id that jobs name."
    )
    workflow: Workflow | None = Field(
        None, description="What runs: a title, jobs, and what becomes of their outputs."
    )
    workflows: Annotated[list[Workflow], Field(min_length=1), OneOrMore()] | None = Field(
        None, description="Several workflows, each with an id."
    )


for _model in (WorkflowComponent, ForEachJob, LoopJob, AccumulateJob, Workflow, Compose):
    _model.model_rebuild()


# Groups of keys that exclude each other: a mapping has keys of one line of a group.
_FORMS: dict[type[BaseModel], list[list[set[str]]]] = {
    Compose: [[{"component"}, {"components"}], [{"workflow"}, {"workflows"}]],
    Controller: [[{"adapter"}, {"adapters"}, set(Adapter.model_fields)]],
    Workflow: [[{"job"}, {"jobs"}, set(JobFields.model_fields) - {"output"}]],
    IfJob: [[{"conditions"}, {"operator", "value", "if_true", "if_false"}]],
    LoopJob: [[{"until"}, {"while"}]],
    Test: [[{"input", "operator", "value"}, {"all"}, {"any"}, {"not"}]],
    DelayJob: [[{"duration"}, {"time", "timezone"}]],
    ModelComponent: [
        [{"action"}, {"actions"}, {"text", "prompt", "messages", "output"}],
        [{"peft_adapter"}, {"peft_adapters"}],
    ],
    ActionFields: [[{"text"}, {"prompt"}, {"messages"}]],
    ModelSource: [[{"repository"}, {"path"}, {"name"}], [{"file"}, {"name"}]],
}


# What a component says to its model, by its task; and what has no meaning beside it.
PROMPT_KEYS = {"text-generation": ("text", "prompt"), "chat-completion": ("messages",)}
NOT_OF_TASK = {
    "text-generation": ("messages",),
    "chat-completion": ("text", "prompt", "include_prompt"),
}


@cache
def without_effect(model: type[BaseModel]) -> dict[str, str]:
    """The keys of a mapping that change nothing, each with the reason."""
    reasons = ADAPTER_NO_EFFECT if model is PeftAdapter else NO_EFFECT
    said = {key: info.description for key, info in keys_of(model).items()}
    return {key: why for key, why in reasons.items() if said.get(key) == _IDLE.format(why)}


def excluded(model: type[BaseModel], given: Collection[str]) -> set[str]:
    """The keys that cannot stand in a mapping beside those that are given."""
    keys: set[str] = set()
    for forms in (forms for each in model.__mro__ for forms in _FORMS.get(each, [])):
        others = [form for form in forms if form.isdisjoint(given)]
        if len(others) < len(forms):
            keys.update(*others)
    return keys


def own_keys(data: dict[str, Any]) -> dict[str, Any]:
    """The document without the keys that belong to its author."""
    return {key: value for key, value in data.items() if not str(key).startswith("x-")}


def parts(annotation: Any) -> Iterator[Any]:
    """A field's annotation and all that it is made of."""
    yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from parts(argument)


def metadata(field: FieldInfo) -> list[Any]:
    """What a field's annotation says beside its types: how values are converted and bounded."""
    found = [getattr(part, "__metadata__", ()) for part in parts(field.annotation)]
    return [each for group in (field.metadata, *found) for each in group]


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's annotation mentions."""
    found = (part for part in parts(annotation) if isinstance(part, type))
    return [part for part in found if issubclass(part, BaseModel)]


def models_by_type(annotation: Any) -> dict[str, type[BaseModel]]:
    """The models of a field that go by a mapping's ``type``, the one of those without any first;
    none where they do not."""
    found: dict[str, type[BaseModel]] = {}
    for part in parts(annotation):
        for tag in getattr(part, "__metadata__", ()):
            if isinstance(tag, Tag) and tag.tag.startswith(OF_TYPE):
                found[tag.tag.removeprefix(OF_TYPE)] = part.__origin__
    return found


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys of a mapping, as they are written, with what each may hold."""
    return {info.alias or name: info for name, info in model.model_fields.items()}
