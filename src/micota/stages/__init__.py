"""One file for each kind of stage: a function `run(task) -> Result` that fills `task.out`. They never import each
other; what a stage is for is written in its spec."""
