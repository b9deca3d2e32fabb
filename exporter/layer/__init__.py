"""What happens to the bytes of layers: conversion, timestamp rewriting, and reading the files in them."""
