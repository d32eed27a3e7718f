"""Helpers of the notebooks."""

from openai import OpenAI

client = OpenAI()


def ask(text):
    """Return the model's answer."""
    return client.responses.create(model="gpt-4o-mini", input=text).output_text
