"""Which built-in kinds are cluster-wide: the list that kustomize uses, so no cluster is asked."""

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
    """Whether the object's kind is known to be cluster-wide.

    Only its cluster knows that of a custom resource; until the cluster is asked, one counts as namespaced.
    """
    group = item["apiVersion"].rpartition("/")[0]
    return item["kind"] in _CLUSTER_WIDE and (group in _OWN_GROUPS or group.endswith(".k8s.io"))
