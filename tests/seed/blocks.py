"""The YAML blocks of the example's page, as they stand there."""

SEED_PARAMETERS = """\
params:
  max_output_length: 32768
  temperature: 0.7          # 무작위성 제어 (0.0-1.0)
  top_p: 0.9               # Nucleus 샘플링 매개변수
  top_k: 50                # Top-k 샘플링 매개변수
  repetition_penalty: 1.1   # 반복적인 텍스트 방지
  do_sample: true          # 탐욕적 디코딩 vs 샘플링 활성화
"""
SEED_OTHER_MODEL = """\
component:
  type: model
  task: text-generation
  model: microsoft/DialoGPT-small    # 더 작은 대화형 모델
  # 또는
  model: EleutherAI/gpt-neo-1.3B     # 대안 1.3B 매개변수 모델
"""
SEED_TUNED = """\
component:
  type: model
  task: text-generation
  model: HuggingFaceTB/SmolLM3-3B
  text: ${input.prompt as text}
  params:
    max_output_length: 1024
    temperature: ${input.temperature as number | 0.7}
    top_p: ${input.top_p as number | 0.9}
    do_sample: true
"""
SEED_INSTRUCTION = """\
component:
  type: model
  task: text-generation
  model: HuggingFaceTB/SmolLM3-3B
  text: |
    ### Instruction:
    ${input.instruction}

    ### Response:
  params:
    max_output_length: 2048
"""
SEED_BATCH = """\
workflow:
  title: Batch Text Generation
  jobs:
    - id: generate-multiple
      component: text-generator
      repeat_count: ${input.batch_size}
      input:
        prompt: ${input.prompts[${index}]}
"""
SEED_TEMPLATE = """\
component:
  type: model
  task: text-generation
  model: HuggingFaceTB/SmolLM3-3B
  text: ${input.template | "Generate text about: ${input.topic}"}
"""
