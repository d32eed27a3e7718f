"""Asks a model one question: a program of its own, and a function for workers, for 06_any_process.ipynb."""

import os
import sys

from openai import OpenAI


def ask(question: str) -> str:
    """Return the answer of the model."""
    answer = OpenAI().chat.completions.create(
        model=os.environ.get("MODEL", "smollm2-135m"),
        messages=[{"role": "user", "content": question}],
        max_tokens=20,
        temperature=0,
    )
    return answer.choices[0].message.content or ""


if __name__ == "__main__":
    print(ask(sys.argv[1]))
