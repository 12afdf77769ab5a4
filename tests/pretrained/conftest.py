"""Folders with published weights."""

import pytest
from small_bert import write_bert


@pytest.fixture
def bert(tmp_path):
    """A folder with a small BERT: weights, config.json and tokenizer.json."""
    write_bert(tmp_path)
    return tmp_path
