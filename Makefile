# make demo: photographs painted into out/.  make app: the web app.  make test: the tests.  Each first sets up .venv, once.
PYTHON ?= python3
VENV := .venv
STYLENORM := $(VENV)/bin/stylenorm
READY := $(VENV)/ready
STYLES := starry-night great-wave scream kiss composition-vii
PHOTOS := examples/astronaut.jpg examples/coffee.jpg examples/chelsea.jpg

.PHONY: demo app test test-all clean

demo: $(READY)
	@for style in $(STYLES); do $(STYLENORM) stylize $(PHOTOS) --style $$style -o out/$$style/ || exit 1; done
	@$(STYLENORM) stylize examples/coffee.jpg --style starry-night:0.5,great-wave:0.5 -o out/blend.jpg
	@$(STYLENORM) stylize examples/chelsea.jpg --style scream --strength 0.6 --preserve-color -o out/own-colours.jpg
	@$(STYLENORM) stylize examples/astronaut.jpg --style starry-night --keep people -o out/all-but-people.jpg
	@$(STYLENORM) sheet examples/coffee.jpg -o out/sheet.png
	@echo
	@echo "The pictures are in out/; start with out/sheet.png. What to try next:"
	@echo "  $(STYLENORM) styles"
	@echo "  $(STYLENORM) stylize YOUR-PHOTO.jpg --style starry-night -o painted.jpg"
	@echo "  $(STYLENORM) stylize YOUR-PHOTO.jpg --style-image ANY-PAINTING.jpg -o painted.jpg"
	@echo "  $(STYLENORM) stylize YOUR-PHOTO.jpg --style great-wave --keep people -o painted.jpg"
	@echo "  $(STYLENORM) stylize YOUR-FOLDER/ --style kiss --strength 0.7 -o painted/"
	@echo "  $(STYLENORM) stylize --help"
	@echo "  make app"

app: $(READY)
	$(STYLENORM) app

# By three processes, each file by one of them, in the order of tests/conftest.py: most tests use one core, and some wait. When one dies,
# pytest-xdist 3.8 hangs unless it may not start another.
test: $(READY)
	$(VENV)/bin/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test-all: $(READY)
	$(VENV)/bin/python -m pytest -m ""

clean:
	rm -rf $(VENV) out

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' || \
	  { echo "stylenorm needs Python 3.10 to 3.14: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $(READY)
