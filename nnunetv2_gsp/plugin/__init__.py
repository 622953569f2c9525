"""Makes nnU-Net find the trainers of this package.

nnU-Net looks a trainer up by class name in its own folder and then in those that `nnUNet_extTrainer` names. A .pth
beside the installed package runs `startup.py` at interpreter start, which appends `ext_trainer/` to that variable.
"""
