"""Options and arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe by its name, or a YAML file.")]
MachineName = Annotated[str, typer.Option(help="A shipped machine profile by its name, or a YAML file.")]
StoreDir = Annotated[Path, typer.Option("--store", envvar="MICOTA_STORE", help="Where artifacts are kept.")]
STORE = Path("micota-store")
Sets = Annotated[list[str] | None, typer.Option("--set", help="Override a value: --set let.ta-long.train.lr=2e-5")]
Fields = Annotated[list[str] | None, typer.Option("--set", help="Set a field: --set lr=2e-5, --set prompt.system=...")]
Only = Annotated[str | None, typer.Option(help="One name of the recipe, with what it needs.")]
DataDir = Annotated[Path | None, typer.Option(help="A folder with the benchmarks as NAME.jsonl; else the Hub.")]
Model = Annotated[str, typer.Argument(help="A Hub id, a folder, lab:NAME, or endpoint:NAME.")]
Data = Annotated[str, typer.Argument(help="Rows of chats, prompts and responses, or instructions: a file or a Hub id.")]
Problems = Annotated[str, typer.Argument(help="A Hub id, a file (JSONL, CSV, Parquet), or a benchmark's name.")]
Problem = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the text of the problem.")]
Answer = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the reference answer.")]
Prompt = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the user message.")]
Response = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the response.")]
Messages = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with chats.")]
System = Annotated[str | None, typer.Option(help="The system message of all rows.")]
Limit = Annotated[int | None, typer.Option(help="The first N problems only.")]
Samples = Annotated[int | None, typer.Option("--n", help="Samples of each problem.")]
Temperature = Annotated[float | None, typer.Option(help="0, the default, is greedy.")]
MaxTokens = Annotated[int | None, typer.Option(help="New tokens at most.")]
