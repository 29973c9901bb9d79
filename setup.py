"""The package list, which setup.cfg can't express; everything else is in setup.cfg."""

from setuptools import find_packages, setup

# twisted/plugins is a folder that Twisted shares with every package that offers a plugin. It has
# no __init__.py, so find_packages does not see it, and it must be named for wheels to carry it.
setup(packages=[*find_packages(include=["chat_twisted*"]), "twisted.plugins"])
