"""awall's policy files, as they are: read with positions, put in awall's order, translated to rules of ours."""
