"""Who may talk to whom: nothing is open that nobody needs, and nothing is closed that somebody does."""

from __future__ import annotations

from tests.deployments.kustomizing import Object, containers, key, running


def selected(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector matches."""
    equal = all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
    among = all(
        (labels.get(each["key"]) in each["values"]) == (each["operator"] == "In")
        for each in selector.get("matchExpressions", [])
    )
    return equal and among


def test_each_port_lets_somebody_in_and_nothing_else_is_open(objects: list[Object]) -> None:
    """A port of a container without a rule that lets somebody in would answer nobody."""
    policies = [found for found in objects if found["kind"] == "NetworkPolicy"]
    for found in running(objects):
        space, labels = found["metadata"]["namespace"], found["spec"]["template"]["metadata"]["labels"]
        mine = [
            policy["spec"]
            for policy in policies
            if policy["metadata"]["namespace"] == space and selected(policy["spec"]["podSelector"], labels)
        ]
        assert any(
            set(spec["policyTypes"]) == {"Ingress", "Egress"}
            and not spec.get("ingress")
            and not spec.get("egress")
            for spec in mine
        ), f"nothing is denied to {key(found)}"
        open_ports = {
            port["port"] for spec in mine for rule in spec.get("ingress", []) for port in rule["ports"]
        }
        ports = {port["containerPort"] for each in containers(found) for port in each.get("ports", [])}
        assert ports == open_ports, key(found)


def reached(rule: Object, peers: str, here: str, there: tuple[str, dict[str, str]]) -> set[int]:
    """Ports that a rule of a policy in namespace `here` opens towards a pod: its namespace and its labels."""
    ports = {port["port"] for port in rule["ports"]}
    for peer in rule.get(peers, []):
        space = peer.get("namespaceSelector", {}).get("matchLabels", {})
        named = set(space) <= {"kubernetes.io/metadata.name"}
        near = space.get("kubernetes.io/metadata.name", here) == there[0]
        if named and near and selected(peer.get("podSelector", {}), there[1]):
            return ports
    return set()


def test_rules_between_pods_have_two_sides(objects: list[Object]) -> None:
    """What one pod may send to another, the other may take from it."""
    policies = [found for found in objects if found["kind"] == "NetworkPolicy"]
    pods = {
        (found["metadata"]["namespace"], found["metadata"]["name"]): found["spec"]["template"]["metadata"][
            "labels"
        ]
        for found in running(objects)
    }

    def allowed(direction: str, peers: str, here: tuple[str, str], there: tuple[str, str]) -> set[int]:
        ports: set[int] = set()
        for policy in policies:
            spec = policy["spec"]
            if policy["metadata"]["namespace"] != here[0] or not selected(spec["podSelector"], pods[here]):
                continue
            for rule in spec.get(direction, []):
                ports |= reached(rule, peers, here[0], (there[0], pods[there]))
        return ports

    for one in pods:
        for other in pods:
            sent = allowed("egress", "to", one, other)
            taken = allowed("ingress", "from", other, one)
            assert sent == taken, f"{one} may send to {sent} of {other}, which takes {taken} from it"


def test_services_and_routes_lead_to_ports_that_exist(objects: list[Object]) -> None:
    by_key = {key(found): found for found in objects}
    for found in objects:
        if found["kind"] == "Service":
            space = found["metadata"]["namespace"]
            chosen = [
                each
                for each in running(objects)
                if each["metadata"]["namespace"] == space
                and selected(
                    {"matchLabels": found["spec"]["selector"]}, each["spec"]["template"]["metadata"]["labels"]
                )
            ]
            assert len(chosen) == 1, key(found)
            names = {port["name"] for each in containers(chosen[0]) for port in each.get("ports", [])}
            assert {port["targetPort"] for port in found["spec"]["ports"]} <= names
        if found["kind"] == "HTTPRoute":
            for backend in (each for rule in found["spec"]["rules"] for each in rule["backendRefs"]):
                service = by_key["Service", found["metadata"]["namespace"], backend["name"]]
                assert backend["port"] in {port["port"] for port in service["spec"]["ports"]}
