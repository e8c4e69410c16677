# What people type. Every target that needs .venv sets it up first, which does nothing where it is up to date.

python := .venv/bin/python
# A file of tests at a time to each process: tests of a file share what takes long to compute.
several := -n auto --maxprocesses=4 --dist=loadfile
# Whether a Docker engine answers; asked only by what needs it.
engine = $(shell $(or $(DOCKER),docker) info > /dev/null 2>&1 && echo yes)

.PHONY: help setup benchmark test test-all images images-with-tests test-images lint clean

help:
	@echo 'make benchmark  time training of vgg_16 on this machine: ./run_benchmark.py --model=vgg_16'
	@echo 'make test       the tests that take seconds'
	@echo 'make test-all   all tests: also the slow ones and, where a Docker engine answers, those in containers'
	@echo 'make images     the Docker images darchr/tf-bench, darchr/tf-bench-mkl and the base of both'
	@echo 'make test-images  builds the images and tests them in containers'
	@echo 'make lint       ruff and mypy'
	@echo 'make setup      only .venv, which the others set up too: TensorFlow, Horovod (built once) and the rest'
	@echo 'make clean      delete .venv and all else that was made, but not the records in results/'
	@echo
	@echo 'With PYTHON=python3.12 .venv is made with that Python; with HOROVOD=no without Horovod.'

setup:
	@tools/setup_venv.sh

benchmark: setup
	$(python) run_benchmark.py --model=vgg_16

test: setup
	$(python) -m pytest $(several) -m 'not slow and not container'

test-all: setup
	$(if $(engine),$(MAKE) images-with-tests,@echo 'No Docker engine answers: the tests in containers are left out.')
	$(python) -m pytest $(if $(engine),,-m 'not container')

images:
	docker/build.sh

# On each image one with pytest, in which `make test-all` runs the tests of the program.
images-with-tests: images
	docker/build.sh --tests

test-images: setup images-with-tests
	$(python) -m pytest -m 'container and not slow' tests/docker

lint: setup
	$(python) -m ruff check .
	$(python) -m mypy

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
