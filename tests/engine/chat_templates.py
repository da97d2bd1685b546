"""Chat templates as they are in use, written from their public descriptions, with tiny tokenizers that have
the tokens which each of them needs."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.engine.tiny_models import TEXT

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_3 = """{%- set ns = namespace(last_query_index=messages|length - 1) %}
{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.last_query_index == messages|length - 1 and message.role == 'user' %}
        {%- set ns.last_query_index = index if index < messages|length - 1 else ns.last_query_index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set content = message.content %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""  # noqa: E501
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set said = messages[0]['content'] %}"
    "{% set rest = messages[1:] %}{% else %}"
    "{% set said = false %}{% set rest = messages %}{% endif %}{% for m in rest %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and said %}"
    "{% set content = '<<SYS>>\n' + said + '\n<</SYS>>\n\n' + m['content'] %}"
    "{% else %}{% set content = m['content'] %}{% endif %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{% for m in messages %}{% set text = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
    "m['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set text = bos_token + text %}{% endif %}{{ text }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA_3_2 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}{%- set said = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set said = "" %}{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" + said + "<|eot_id|>" }}
{%- for m in messages %}
    {{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""  # noqa: E501
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if m['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = m['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI_3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
PHI_4 = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '<|im_sep|>' + m['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
R1_DISTILL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '<|User|>' + m['content'] }}{% endif %}"
    "{% if m['role'] == 'assistant' %}{% set content = m['content'] %}{% if '</think>' in content %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<|Assistant|>' + content + '<|end_of_sentence|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}\n{% if m['role'] == 'user' %}\n{{ '<|user|>\n' + m['content'] + eos_token }}\n"
    "{% elif m['role'] == 'system' %}\n{{ '<|system|>\n' + m['content'] + eos_token }}\n"
    "{% elif m['role'] == 'assistant' %}\n{{ '<|assistant|>\n' + m['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
COMMAND_R = (
    "{{ bos_token }}{% for m in messages %}{% set role = {'user': 'USER', 'assistant': 'CHATBOT', "
    "'system': 'SYSTEM'}[m['role']] %}{{ '<|START_OF_TURN_TOKEN|><|' + role + '_TOKEN|>' + "
    "m['content'].strip() + '<|END_OF_TURN_TOKEN|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
)
OLMO = (
    "{{ eos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<|assistant|>\n' + m['content'] + eos_token }}{% if not loop.last %}{{ '\n' }}{% endif %}"
    "{% else %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '\n' }}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
)
TWO_ENDINGS = CHATML.replace("<|im_end|>\n{% endfor %}", "<|im_end|>{{ eos_token }}\n{% endfor %}")
ANSWERED_ALONE = CHATML.partition("{% if add_generation_prompt %}")[0]
WORDS_FOR_AN_END = CHATML.replace("<|im_end|>", "[[end]]").replace("<|im_start|>", "[[begin]]")
PIECES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class Chat:
    """A template with what its tokenizer needs."""

    template: str
    marks: tuple[str, ...]
    """Added tokens; those beside BOS and EOS stand in no map of special tokens."""
    eos: str
    bos: str | None = None
    ends_with: str | None = None
    """How the end of a turn is written; None: as the EOS."""
    like_sentencepiece: bool = False
    takes_system: bool = True
    drops_thoughts: bool = False
    """Whether the template leaves out what an answer thought."""

    @property
    def ending(self) -> str:
        return self.ends_with or self.eos


CHATS = {
    "llama_2": Chat(LLAMA_2, (), "</s>", "<s>", like_sentencepiece=True),
    "llama_3": Chat(
        LLAMA_3,
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|end_of_text|>",
        "<|begin_of_text|>",
        ends_with="<|eot_id|>",
    ),
    "llama_3_2": Chat(
        LLAMA_3_2,
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|end_of_text|>",
        "<|begin_of_text|>",
        ends_with="<|eot_id|>",
    ),
    "mistral": Chat(MISTRAL, (), "</s>", "<s>", like_sentencepiece=True, takes_system=False),
    "qwen_2_5": Chat(
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "{% endif %}" + CHATML,
        ("<|im_start|>", "<|im_end|>"),
        "<|endoftext|>",
        ends_with="<|im_end|>",
    ),
    "qwen_3": Chat(
        QWEN_3, ("<|im_start|>", "<|im_end|>", "<think>", "</think>"), "<|endoftext|>", ends_with="<|im_end|>"
    ),
    "gemma": Chat(
        GEMMA,
        ("<start_of_turn>", "<end_of_turn>", "\n\n"),
        "<eos>",
        "<bos>",
        ends_with="<end_of_turn>",
        takes_system=False,
    ),
    "phi_3": Chat(
        PHI_3, ("<|system|>", "<|user|>", "<|end|>", "<|assistant|>"), "<|endoftext|>", ends_with="<|end|>"
    ),
    "phi_4": Chat(
        PHI_4, ("<|im_start|>", "<|im_sep|>", "<|im_end|>"), "<|endoftext|>", ends_with="<|im_end|>"
    ),
    "r1_distill": Chat(
        R1_DISTILL,
        ("<|User|>", "<|Assistant|>", "<think>", "</think>"),
        "<|end_of_sentence|>",
        "<|begin_of_sentence|>",
        drops_thoughts=True,
    ),
    "chatml": Chat(CHATML, ("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    "zephyr": Chat(ZEPHYR, (), "</s>", "<s>", like_sentencepiece=True),
    "command_r": Chat(
        COMMAND_R,
        (
            "<|START_OF_TURN_TOKEN|>",
            "<|END_OF_TURN_TOKEN|>",
            "<|USER_TOKEN|>",
            "<|CHATBOT_TOKEN|>",
            "<|SYSTEM_TOKEN|>",
        ),
        "<EOS_TOKEN>",
        "<BOS_TOKEN>",
        ends_with="<|END_OF_TURN_TOKEN|>",
    ),
    "olmo": Chat(OLMO, (), "<|endoftext|>"),
    "two_endings": Chat(
        TWO_ENDINGS,
        ("<|im_start|>", "<|im_end|>"),
        "<|endoftext|>",
        ends_with="<|im_end|><|endoftext|>",
    ),
    "answered_alone": Chat(ANSWERED_ALONE, ("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    "words_for_an_end": Chat(WORDS_FOR_AN_END, (), "<|endoftext|>", ends_with="[[end]]"),
}


@functools.cache
def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a chat model, with its template."""
    chat = CHATS[name]
    core = _like_sentencepiece() if chat.like_sentencepiece else _byte_level()
    named = [one for one in (chat.bos, chat.eos) if one is not None]
    core.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in named])
    core.add_tokens(
        [AddedToken(one, special=False, normalized=False) for one in chat.marks if one not in named]
    )
    if chat.bos is not None:
        core.post_processor = processors.TemplateProcessing(
            single=f"{chat.bos} $A", special_tokens=[(chat.bos, core.token_to_id(chat.bos))]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=chat.bos, eos_token=chat.eos)
    tokenizer.chat_template = chat.template
    return tokenizer


def _byte_level() -> Tokenizer:
    """Pieces as Llama 3 and Qwen make them: punctuation takes the line breaks behind it along."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(PIECES),
                "isolated",
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    core.train_from_iterator([*TEXT, "Yes.\n\nNo.\n", "assistant\n\n\n", "a  b   c"] * 5, trainer)
    return core


def _like_sentencepiece() -> Tokenizer:
    """As Llama 2's: words that begin with ▁, which stands before every text, and bytes for the rest."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)
    trainer = trainers.BpeTrainer(vocab_size=520, special_tokens=["<unk>", *bytes_], show_progress=False)
    trained.train_from_iterator([*TEXT, "[INST] Name a colour. [/INST] Blue is a colour."] * 5, trainer)
    learned = trained.model
    core = Tokenizer(learned)
    core.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return core
