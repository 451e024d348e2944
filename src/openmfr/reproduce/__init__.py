"""The paper's tables as experiments at the scale of one small machine, its figures beside ours."""
