// Command bench measures in Go what scripts/bench measures in Python. It uses only the standard library.
//
//	bench moby CONFIG LAYERS SECONDS      patch a config as moby's exporter does
//	bench buildkit CONFIG LAYERS SECONDS  compute config and manifest as BuildKit's exporter does
//	bench gzip FILE                       compress a file with compress/gzip at its default level
//
// It prints one JSON object.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// The fixed times and names that scripts/bench uses for its layers.
const (
	start     = 1706315448
	layerType = "application/vnd.oci.image.layer.v1.tar+gzip"
)

type entry struct {
	Created    *time.Time `json:"created,omitempty"`
	CreatedBy  string     `json:"created_by,omitempty"`
	Author     string     `json:"author,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	EmptyLayer bool       `json:"empty_layer,omitempty"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type imageConfig struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
}

type image struct {
	Created      *time.Time  `json:"created,omitempty"`
	Author       string      `json:"author,omitempty"`
	Architecture string      `json:"architecture"`
	OS           string      `json:"os"`
	Variant      string      `json:"variant,omitempty"`
	Config       imageConfig `json:"config,omitempty"`
	RootFS       rootFS      `json:"rootfs"`
	History      []entry     `json:"history,omitempty"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type layer struct {
	description string
	created     *time.Time
	blob        descriptor
}

func main() {
	result, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		os.Exit(1)
	}
}

func run(args []string) (map[string]any, error) {
	if len(args) == 2 && args[0] == "gzip" {
		return compress(args[1])
	}
	if len(args) != 4 || (args[0] != "moby" && args[0] != "buildkit") {
		return nil, errors.New("usage: bench moby|buildkit CONFIG LAYERS SECONDS, or bench gzip FILE")
	}
	data, err := os.ReadFile(args[1])
	if err != nil {
		return nil, err
	}
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseFloat(args[3], 64)
	if err != nil {
		return nil, err
	}
	compute := mobyImage
	if args[0] == "buildkit" {
		compute = buildkitImage
	}
	return repeat(compute, data, chain(count), seconds)
}

// repeat calls compute until the time is over, and reports the mean duration of a call.
func repeat(
	compute func([]byte, []layer) ([]byte, error), data []byte, layers []layer, seconds float64,
) (map[string]any, error) {
	result, err := compute(data, layers)
	if err != nil {
		return nil, err
	}
	begun, calls := time.Now(), 0
	for calls == 0 || time.Since(begun).Seconds() < seconds {
		if _, err := compute(data, layers); err != nil {
			return nil, err
		}
		calls++
	}
	return map[string]any{
		"seconds": time.Since(begun).Seconds() / float64(calls),
		"digest":  digest(result),
	}, nil
}

func chain(count int) []layer {
	layers := make([]layer, count)
	for i := range layers {
		created := time.Unix(start+60, int64(i)).UTC()
		id := digest([]byte(strconv.Itoa(i)))
		layers[i] = layer{
			description: fmt.Sprintf("RUN step %05d", i),
			created:     &created,
			blob:        descriptor{layerType, id, 1000, map[string]string{"containerd.io/uncompressed": id}},
		}
	}
	return layers
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func mobyImage(data []byte, layers []layer) ([]byte, error) {
	history, err := readHistory(data)
	if err != nil {
		return nil, err
	}
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, err
	}
	config, err := patch(members, fit(history, layers), layers)
	if err != nil {
		return nil, err
	}
	digest(config)
	return config, nil
}

func buildkitImage(data []byte, layers []layer) ([]byte, error) {
	history, err := readHistory(data)
	if err != nil {
		return nil, err
	}
	var checked image
	if err := json.Unmarshal(data, &checked); err != nil {
		return nil, err
	}
	if checked.OS == "" || checked.Architecture == "" {
		return nil, errors.New("the config has no platform")
	}
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, err
	}
	config, err := patch(members, fit(history, layers), layers)
	if err != nil {
		return nil, err
	}
	made := manifest{
		SchemaVersion: 2,
		MediaType:     "application/vnd.oci.image.manifest.v1+json",
		Config:        descriptor{"application/vnd.oci.image.config.v1+json", digest(config), int64(len(config)), nil},
	}
	for _, item := range layers {
		blob := item.blob
		blob.Annotations = published(blob.Annotations)
		made.Layers = append(made.Layers, blob)
	}
	encoded, err := json.MarshalIndent(made, "", "  ")
	if err != nil {
		return nil, err
	}
	digest(encoded)
	return append(config, encoded...), nil
}

func published(annotations map[string]string) map[string]string {
	kept := map[string]string{}
	for key, value := range annotations {
		if key != "containerd.io/uncompressed" {
			kept[key] = value
		}
	}
	return kept
}

func readHistory(data []byte) ([]entry, error) {
	var config struct{ History []entry }
	err := json.Unmarshal(data, &config)
	return config.History, err
}

// fit makes the history account for every layer, and gives each entry a time.
func fit(history []entry, layers []layer) []entry {
	filled := 0
	for i := range history {
		if history[i].EmptyLayer {
			continue
		}
		if filled == len(layers) {
			history[i].EmptyLayer = true
			continue
		}
		if history[i].Created == nil {
			history[i].Created = layers[filled].created
		}
		filled++
	}
	for ; filled < len(layers); filled++ {
		history = append(history, entry{
			Created: layers[filled].created, CreatedBy: layers[filled].description, Comment: "buildkit.exporter.image.v0",
		})
	}
	timed := 0
	for timed < len(history) && history[timed].Created != nil {
		timed++
	}
	var created *time.Time
	if timed > 0 {
		created = history[timed-1].Created
	}
	for i := timed; i < len(history); i++ {
		if history[i].Created != nil {
			created = history[i].Created
			break
		}
	}
	for i := timed; i < len(history); i++ {
		if history[i].Created == nil {
			history[i].Created = created
		} else {
			created = history[i].Created
		}
	}
	return history
}

func patch(members map[string]json.RawMessage, history []entry, layers []layer) ([]byte, error) {
	root := rootFS{Type: "layers"}
	for _, item := range layers {
		root.DiffIDs = append(root.DiffIDs, item.blob.Digest)
	}
	values := map[string]any{"rootfs": root, "history": history}
	if _, ok := members["created"]; !ok {
		for i := len(history) - 1; i >= 0; i-- {
			if history[i].Created != nil {
				values["created"] = history[i].Created
				break
			}
		}
	}
	for key, value := range values {
		encoded, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		members[key] = encoded
	}
	return json.Marshal(members)
}

func compress(path string) (map[string]any, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.Grow(len(data))
	before, err := processorSeconds()
	if err != nil {
		return nil, err
	}
	writer := gzip.NewWriter(&out)
	if _, err := writer.Write(data); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	after, err := processorSeconds()
	if err != nil {
		return nil, err
	}
	return map[string]any{"seconds": after - before, "size": out.Len()}, nil
}

func processorSeconds() (float64, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9, nil
}
