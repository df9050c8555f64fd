PROBE: int

def run(
    kernel: int,
    args: int,
    stride: int,
    boxes: int,
    apart: int,
    starts: int,
    count: int,
    threads: int,
    /,
) -> int: ...
def started() -> int: ...
