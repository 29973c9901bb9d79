# test: the README's test command. check: all that each change must pass. soak: what takes longer;
# docs/soak.rst tells how often, and what the lines must say.

PYTHON = venv/bin/python
MINUTES = 30
SECONDS = 20

SOAK = soak-chaos soak-cluster-chaos soak-fuzz soak-hostile soak-ssh soak-history

.PHONY: test check soak $(SOAK)
.NOTPARALLEL:

test:
	@grep -m 1 venv/bin/pytest README.rst | sh -ex

check:
	.ci/run

soak:
	@$(MAKE) --keep-going --no-print-directory $(SOAK)

soak-chaos:
	$(PYTHON) benchmarks/chaos $(MINUTES)

soak-cluster-chaos:
	$(PYTHON) benchmarks/cluster-chaos $(MINUTES)

soak-fuzz:
	$(PYTHON) benchmarks/fuzz $(MINUTES)

soak-hostile:
	$(PYTHON) benchmarks/hostile --seconds $(SECONDS)

soak-ssh:
	$(PYTHON) benchmarks/ssh --seconds $(SECONDS)

soak-history:
	$(PYTHON) benchmarks/history
