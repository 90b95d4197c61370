"""Makes nemo_bias known to every program that imports NeMo: Hydra imports this module when NeMo looks for its plugins."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from nemo_bias.integration.registration.hook import install
from nemo_bias.integration.registration.patches import attempt

install()


class BiasedBeamNodes(SearchPathPlugin):  # type: ignore[misc]
    """Gives every CTC decoding node of a Hydra program's config a typed node `biased_beam`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra before it composes a config; the search path itself stays as it is."""
        attempt(_add_nodes)


def _add_nodes() -> None:
    from nemo_bias.integration.registration.hydra_nodes import add_biased_beam_nodes

    add_biased_beam_nodes()
