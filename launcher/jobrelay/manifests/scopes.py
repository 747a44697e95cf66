"""Which kinds of Kubernetes's own stand outside of all namespaces, as kustomize knows it, with no cluster."""

from __future__ import annotations

from typing import Final

from jobrelay.kube.objects import Object

_CLUSTER_WIDE: Final = frozenset(
    {
        "APIService", "CSIDriver", "CSINode", "CertificateSigningRequest", "ClusterRole",
        "ClusterRoleBinding", "ClusterTrustBundle", "ComponentStatus", "CustomResourceDefinition",
        "DeviceClass", "FlowSchema", "IPAddress", "IngressClass", "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration", "Namespace", "Node",
        "PersistentVolume", "PodSecurityPolicy", "PriorityClass", "PriorityLevelConfiguration",
        "ResourceSlice", "RuntimeClass", "ServiceCIDR", "StorageClass", "StorageVersion",
        "StorageVersionMigration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration", "VolumeAttachment", "VolumeAttributesClass",
    }
)  # fmt: skip
_OWN_GROUPS: Final = ("", "apps", "autoscaling", "batch", "extensions", "policy")


def is_cluster_wide(item: Object) -> bool:
    """Whether it is of a kind that is known to stand outside of namespaces.

    Of a custom resource only its cluster knows; until that is asked, it is taken for one in a namespace.
    """
    group = item["apiVersion"].rpartition("/")[0]
    return item["kind"] in _CLUSTER_WIDE and (group in _OWN_GROUPS or group.endswith(".k8s.io"))
