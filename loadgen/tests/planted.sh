#!/bin/sh
# What `pregao --version` says of a build with planted bugs.
echo 'pregao 0.1.0'
echo 'features: parquet, planted'
