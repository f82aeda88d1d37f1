package main

import (
	"crypto/sha256"
	"fmt"
	"regexp"
)

// What this command writes of SPDX 2.3 in JSON: https://spdx.github.io/spdx-spec/v2.3/
type (
	spdx struct {
		Version   string `json:"spdxVersion"`
		License   string `json:"dataLicense"` // of the document; SPDX asks for CC0-1.0
		ID        string `json:"SPDXID"`
		Name      string `json:"name"`
		Namespace string `json:"documentNamespace"`
		Creation  struct {
			Created  string   `json:"created"`
			Creators []string `json:"creators"`
		} `json:"creationInfo"`
		Packages      []spdxPackage      `json:"packages"`
		Relationships []spdxRelationship `json:"relationships"`
	}
	spdxPackage struct {
		ID            string          `json:"SPDXID"`
		Name          string          `json:"name"`
		VersionInfo   string          `json:"versionInfo"`
		FileName      string          `json:"packageFileName,omitempty"`
		Location      string          `json:"downloadLocation"`
		FilesAnalyzed bool            `json:"filesAnalyzed"`
		Checksums     []spdxChecksum  `json:"checksums,omitempty"`
		References    []spdxReference `json:"externalRefs,omitempty"`
		Comment       string          `json:"comment,omitempty"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxReference struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxRelationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

const documentID = "SPDXRef-DOCUMENT"

func (d *spdx) relate(from, how, to string) {
	d.Relationships = append(d.Relationships, spdxRelationship{from, how, to})
}

var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// spdxID makes an identifier of a name: letters, digits, dots and dashes, and a part of its hash, because others become dashes.
func spdxID(name string) string {
	hash := sha256.Sum256([]byte(name))
	return fmt.Sprintf("SPDXRef-%s-%x", notInID.ReplaceAllString(name, "-"), hash[:4])
}
