"""The web app, thin over `stylenorm.Stylizer`: ``stylenorm app``, ``make app`` or ``python -m app``.

In a checkout this is the folder ``app``; in an installed package it is ``stylenorm.app``. Inside it, imports are relative.
"""
