"""Where a conversion departs from its source first: at the export, a pass, or a node as Keras has it; and why."""
