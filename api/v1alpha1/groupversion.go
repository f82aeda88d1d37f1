package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group.
const GroupName = "storage.mynetwork.io"

// GroupVersion is what the types of this package are served under.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}
}

// AddToScheme registers the types of this package.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(),
		&MyNetwork{}, &MyNetworkList{},
		&StorageNode{}, &StorageNodeList{},
		&ContentGroup{}, &ContentGroupList{},
		&VolumeRecord{}, &VolumeRecordList{})
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
