"""Commands are found in Markdown as a reader finds them."""

from __future__ import annotations

import pytest

from tests.commands import Command, extract

PAGE = """# Title

$ not a command

```console
$ make demo
building …
$ drakcelery submit a.exe \\
>   --wait
published
```

- a list

  ~~~bash
  # a comment
  export A=1

  $ make up
  drakcelery status \\
    --json
  ~~~

````text
```console
$ shown, not meant
```
````

```python
$ nothing
```
"""


def test_commands_of_a_page() -> None:
    """Transcripts give what stands behind a prompt, scripts every line; the rest is text."""
    assert extract(PAGE, "docs/x.md") == [
        Command(file="docs/x.md", line=6, language="console", text="make demo"),
        Command(file="docs/x.md", line=8, language="console", text="drakcelery submit a.exe --wait"),
        Command(file="docs/x.md", line=17, language="bash", text="export A=1"),
        Command(file="docs/x.md", line=19, language="bash", text="make up"),
        Command(file="docs/x.md", line=20, language="bash", text="drakcelery status --json"),
    ]


def test_command_says_where_it_stands() -> None:
    """A failing command can be found in its file."""
    (command,) = extract("```console\n$ make\n```\n")
    assert str(command) == "README.md:2: make"


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("text\n```console\n$ make\n", "README.md:2: this block is not closed"),
        ("```console\n$ make \\\n```\n", "README.md:2: this command ends in a backslash"),
    ],
)
def test_broken_page_is_named(page: str, said: str) -> None:
    """A slip in the Markdown does not make commands vanish from the tests."""
    with pytest.raises(ValueError, match="README") as caught:
        extract(page)
    assert str(caught.value) == said
