"""The error for code that was written for a changed copy of CLIP.

MaPLe's code and many of its successors bring a changed `clip` folder, whose towers take other arguments. Code that
calls the towers of this project with such arguments gets one clear error.
"""


class PatchedBackboneError(TypeError):
    """Raised if code that was written for a changed copy of CLIP calls this CLIP. The message is a single line."""


def check_call(call: str, is_known: bool) -> None:
    """Raise PatchedBackboneError if a call has arguments that only a changed copy of CLIP knows.

    Args:
        call: the call in the message, such as "clip.build_model with design_details".
        is_known: whether this project's CLIP knows the arguments.
    """
    if not is_known:
        raise PatchedBackboneError(
            f"it calls {call}, which needs a changed copy of CLIP. This project's towers take prompts and adapters as "
            "TowerInputs"
        )
