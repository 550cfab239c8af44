"""The 21 datasets of LongBench v1 (arXiv 2308.14508, table 1): group, answer length, metric, prompt.

Prompts have the official structure (instruction, context, the instruction again, question, stem of the answer) in
wording of our own; what a metric needs to see in an answer is asked for as officially. `{context}{input}` without a
gap is one text, which may be cut anywhere; any other `{input}` is a question, which is never cut.
"""

from dataclasses import dataclass
from typing import NamedTuple

from .metrics import (
    CLASSIFICATION,
    COUNT,
    EDIT_SIMILARITY,
    F1,
    F1_ZH,
    RETRIEVAL,
    RETRIEVAL_ZH,
    ROUGE_L,
    ROUGE_L_ZH,
    Metric,
)


class Prompt(NamedTuple):
    """A prompt in three texts, of which only the document may be cut."""

    before: str
    document: str
    after: str


@dataclass(frozen=True)
class Dataset:
    """What decides prompt and score of one dataset."""

    name: str
    group: str
    metric: Metric
    max_new_tokens: int
    template: str
    """Prompt with `{context}` and, where there is a question, `{input}`."""
    language: str = "en"
    chat: bool = True
    """Whether a chat model gets its chat template; officially not where the prompt is to be continued."""
    first_line: bool = False
    """Whether only the first line of the answer is scored."""
    in_e: bool = False
    """Whether LongBench-E has it, under the name with `_e`."""

    def prompt(self, context: str, question: str) -> Prompt:
        """Put one row into the template."""
        gap = "{context}{input}" if "{context}{input}" in self.template else "{context}"
        before, _, after = self.template.partition(gap)
        document = gap.replace("{context}", context, 1) if gap == "{context}" else context + question
        return Prompt(before, document, after.replace("{input}", question))


_PASSAGES = (
    "Use the passages below to answer a question. Reply with the answer alone and nothing else.\n\n"
    "These are the passages.\n{context}\n\n"
    "Use the passages above to answer the question. Reply with the answer alone and nothing else.\n\n"
    "Question: {input}\nAnswer:"
)
_PAPER_RULES = (
    'Be as brief as you can: one phrase or one sentence. Write "unanswerable" if the article doesn\'t tell. '
    'To a yes/no question reply "yes", "no" or "unanswerable". Explain nothing.'
)
_STORY_RULES = "Be as brief as you can, with a single phrase where that is enough. Explain nothing."

_ALL = (
    Dataset(
        name="narrativeqa",
        group="single-document QA",
        metric=F1,
        max_new_tokens=128,
        template=f"Below are a story (a novel or a film script) and a question about it. {_STORY_RULES}\n\n"
        f"Story: {{context}}\n\nNow answer the question from the story. {_STORY_RULES}\n\n"
        "Question: {input}\n\nAnswer:",
    ),
    Dataset(
        name="qasper",
        group="single-document QA",
        metric=F1,
        max_new_tokens=128,
        template=f"Below are a scientific article and a question about it. {_PAPER_RULES}\n\n"
        f"Article: {{context}}\n\nAnswer the question from the article above. {_PAPER_RULES}\n\n"
        "Question: {input}\n\nAnswer:",
        in_e=True,
    ),
    Dataset(
        name="multifieldqa_en",
        group="single-document QA",
        metric=F1,
        max_new_tokens=64,
        template="Read this text, then give a short answer.\n\n{context}\n\n"
        "Now answer a question about the text above. Reply with the answer alone and nothing else.\n\n"
        "Question: {input}\nAnswer:",
        in_e=True,
    ),
    Dataset(
        name="multifieldqa_zh",
        group="single-document QA",
        metric=F1_ZH,
        max_new_tokens=64,
        language="zh",
        template="请阅读下面的文字，然后用中文作简短的回答。\n\n{context}\n\n"
        "请根据上面的文字回答问题，只写出答案，不要写其他内容。\n\n问题：{input}\n回答：",
    ),
    Dataset("hotpotqa", "multi-document QA", F1, 32, _PASSAGES, in_e=True),
    Dataset("2wikimqa", "multi-document QA", F1, 32, _PASSAGES, in_e=True),
    Dataset("musique", "multi-document QA", F1, 32, _PASSAGES),
    Dataset(
        name="dureader",
        group="multi-document QA",
        metric=ROUGE_L_ZH,
        max_new_tokens=128,
        language="zh",
        template="请根据下面的文章回答问题。\n\n文章：{context}\n\n请根据上面的文章回答问题。\n\n问题：{input}\n回答：",
    ),
    Dataset(
        name="gov_report",
        group="summarization",
        metric=ROUGE_L,
        max_new_tokens=512,
        template="Summarize this report of a government agency on one page.\n\nReport:\n{context}\n\n"
        "Now summarize the report on one page.\n\nSummary:",
        in_e=True,
    ),
    Dataset(
        name="qmsum",
        group="summarization",
        metric=ROUGE_L,
        max_new_tokens=512,
        template="Below are the transcript of a meeting and a query, which is a question or an instruction. Answer it "
        "in one sentence or a few.\n\nTranscript:\n{context}\n\n"
        "Now answer the query about the meeting in one sentence or a few.\n\nQuery: {input}\nAnswer:",
    ),
    Dataset(
        name="multi_news",
        group="summarization",
        metric=ROUGE_L,
        max_new_tokens=512,
        template="Summarize all of these news articles on one page.\n\nNews:\n{context}\n\n"
        "Now summarize all of the news on one page.\n\nSummary:",
        in_e=True,
    ),
    Dataset(
        name="vcsum",
        group="summarization",
        metric=ROUGE_L_ZH,
        max_new_tokens=512,
        language="zh",
        template="请阅读下面的会议记录，写一段话概括会议的内容。\n会议记录：\n{context}\n\n会议总结：",
    ),
    Dataset(
        name="trec",
        group="few-shot",
        metric=CLASSIFICATION,
        max_new_tokens=64,
        template="Say of which type the last question is. First come questions with their types.\n\n{context}\n{input}",
        chat=False,
        first_line=True,
        in_e=True,
    ),
    Dataset(
        name="triviaqa",
        group="few-shot",
        metric=F1,
        max_new_tokens=32,
        template="Use the passage to answer the question. Reply with the answer alone and nothing else. First come "
        "examples.\n\n{context}\n\n{input}",
        chat=False,
        first_line=True,
        in_e=True,
    ),
    Dataset(
        name="samsum",
        group="few-shot",
        metric=ROUGE_L,
        max_new_tokens=128,
        template="Summarize the dialogue in a few short sentences. First come examples.\n\n{context}\n\n{input}",
        chat=False,
        first_line=True,
        in_e=True,
    ),
    Dataset(
        name="lsht",
        group="few-shot",
        metric=CLASSIFICATION,
        max_new_tokens=64,
        language="zh",
        template="请说出最后一条新闻属于哪个类别。先看一些例子。\n\n{context}\n{input}",
        chat=False,
        first_line=True,
    ),
    Dataset(
        name="passage_count",
        group="synthetic",
        metric=COUNT,
        max_new_tokens=32,
        template="Below are paragraphs from Wikipedia, some of them more than once. Read them with care and find out "
        "how many different paragraphs there are, counting each repeated one once.\n\n{context}\n\n"
        "Now give the number of different paragraphs. Write nothing but the number, such as 1, 2 or 3.\n\n"
        "The final answer is: ",
        in_e=True,
    ),
    Dataset(
        name="passage_retrieval_en",
        group="synthetic",
        metric=RETRIEVAL,
        max_new_tokens=32,
        template="Below are 30 paragraphs from Wikipedia and then an abstract of one of them. Find the paragraph that "
        "the abstract is of.\n\n{context}\n\nThis is the abstract.\n\n{input}\n\n"
        'Give the number of its paragraph. Write it like "Paragraph 1" or "Paragraph 2".\n\nThe answer is: ',
        in_e=True,
    ),
    Dataset(
        name="passage_retrieval_zh",
        group="synthetic",
        metric=RETRIEVAL_ZH,
        max_new_tokens=32,
        language="zh",
        template="下面有若干段文字，随后是其中一段的摘要。请找出摘要属于哪一段。\n\n{context}\n\n这是摘要。\n\n{input}\n\n"
        '请写出该段落的编号，格式如"段落1"、"段落2"。\n\n答案是：',
    ),
    Dataset(
        name="lcc",
        group="code",
        metric=EDIT_SIMILARITY,
        max_new_tokens=64,
        language="code",
        template="Complete this code. \n{context}Next line of code:\n",
        chat=False,
        in_e=True,
    ),
    Dataset(
        name="repobench-p",
        group="code",
        metric=EDIT_SIMILARITY,
        max_new_tokens=64,
        language="code",
        template="Complete this code. \n{context}{input}Next line of code:\n",
        chat=False,
        in_e=True,
    ),
)
DATASETS = {dataset.name: dataset for dataset in _ALL}
NAMES = (*DATASETS, *(f"{dataset.name}_e" for dataset in _ALL if dataset.in_e))
"""Names of all datasets, those of LongBench-E last."""
