package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"

	"github.com/replyq/replyq/internal/natstest"
)

// What is in deploy/ is run by tools that are not here. These tests read it as those do, as far as it is about us: flags,
// variables, names, ports, files and times.

const deployDir = "../../deploy"

// A container is what a manifest of Kubernetes says of one.
type container struct {
	Image, Name   string
	Command, Args []string
	Ports         []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	ReadinessProbe struct{ GRPC struct{ Port int } } `yaml:"readinessProbe"`
	Lifecycle      struct {
		PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
	}
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
	SecurityContext struct {
		ReadOnlyRootFilesystem bool `yaml:"readOnlyRootFilesystem"`
	} `yaml:"securityContext"`
}

func (c *container) port(name string) int {
	for _, p := range c.Ports {
		if p.Name == name {
			return p.ContainerPort
		}
	}
	return 0
}

// An object is what a manifest has, as far as the tests look at it.
type object struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Replicas    int
		ServiceName string `yaml:"serviceName"`
		Selector    map[string]any
		Ports       []struct {
			Name       string
			Port       int
			TargetPort string `yaml:"targetPort"`
		}
		VolumeClaimTemplates []struct{ Metadata struct{ Name string } } `yaml:"volumeClaimTemplates"`
		Template             struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
				SecurityContext               struct {
					RunAsNonRoot bool `yaml:"runAsNonRoot"`
					RunAsUser    int  `yaml:"runAsUser"`
					FSGroup      int  `yaml:"fsGroup"`
				} `yaml:"securityContext"`
				Containers []container
				Volumes    []struct {
					Name   string
					Secret struct {
						SecretName  string `yaml:"secretName"`
						DefaultMode int    `yaml:"defaultMode"`
					}
				}
			}
		}
	}
}

type kustomization struct {
	Resources       []string
	SecretGenerator []struct {
		Name  string
		Files []string
	} `yaml:"secretGenerator"`
	Images []struct{ Name string }
}

func decodeFile(t *testing.T, name string, into any) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(deployDir, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(file, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// manifests reads all that is applied, by kind and name.
func manifests(t *testing.T) (kustomization, map[string]object) {
	t.Helper()
	var k kustomization
	decodeFile(t, "kubernetes/kustomization.yaml", &k)
	all := make(map[string]object)
	for _, name := range k.Resources {
		file, err := os.Open(filepath.Join(deployDir, "kubernetes", name))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }() // was only read
		decoder := yaml.NewDecoder(file)
		for {
			var o object
			if err := decoder.Decode(&o); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			all[o.Kind+" "+o.Metadata.Name] = o
		}
	}
	return k, all
}

// only is the container of a workload with one.
func only(t *testing.T, o object) container {
	t.Helper()
	if len(o.Spec.Template.Spec.Containers) != 1 {
		t.Fatalf("%s %q has %d containers, want 1", o.Kind, o.Metadata.Name, len(o.Spec.Template.Spec.Containers))
	}
	return o.Spec.Template.Spec.Containers[0]
}

// parseServe parses a command line like the program itself, with these variables and no others of ours.
func parseServe(t *testing.T, args []string, env map[string]string) serveCmd {
	t.Helper()
	var line cli
	parser, err := kong.New(&line, kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, command := range parser.Model.Leaves(false) {
		for _, flag := range command.Flags {
			known = append(known, flag.Envs...)
		}
	}
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "REPLYQ_") && slices.Contains(known, name) {
			t.Setenv(name, "")
			if err := os.Unsetenv(name); err != nil { // t.Setenv puts it back
				t.Fatal(err)
			}
		}
	}
	for name, value := range env {
		if !slices.Contains(known, name) {
			t.Errorf("no flag has the variable %s", name)
		}
		t.Setenv(name, value)
	}
	if _, err := parser.Parse(append([]string{"serve"}, args...)); err != nil {
		t.Fatalf("serve %q: %v", args, err)
	}
	return line.Serve
}

// natsVersion is that of the server that tests run.
func natsVersion(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), natstest.Binary(t), "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`\d+\.\d+\.\d+`).FindString(string(out))
}

// checkURLs wants a URL of each NATS server, and nothing else.
func checkURLs(t *testing.T, urls string, port int, hosts ...string) {
	t.Helper()
	var want []string
	for _, host := range hosts {
		want = append(want, "nats://"+net.JoinHostPort(host, fmt.Sprint(port)))
	}
	if urls != strings.Join(want, ",") {
		t.Errorf("addresses of NATS servers: %s, want %s", urls, strings.Join(want, ","))
	}
}

// after returns what comes behind a flag of nats-server's.
func after(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

func TestKubernetesReplicas(t *testing.T) {
	k, all := manifests(t)
	deployment, nats := all["Deployment replyq"], all["StatefulSet nats"]
	c, n, spec := only(t, deployment), only(t, nats), deployment.Spec.Template.Spec
	line := strings.NewReplacer("$(POD_NAME)", "replyq-0", "$(POD_IP)", "10.0.0.7")
	var args []string
	for _, a := range c.Args {
		args = append(args, line.Replace(a))
	}
	serve := parseServe(t, args, nil)
	if serve.Node != "replyq-0" || serve.PeerAddress != fmt.Sprint("10.0.0.7:", c.port("grpc")) || c.port("grpc") != c.ReadinessProbe.GRPC.Port {
		t.Errorf("node %q, peer address %q, ports %v, probe %v", serve.Node, serve.PeerAddress, c.Ports, c.ReadinessProbe.GRPC)
	}
	var hosts []string
	for i := range nats.Spec.Replicas {
		hosts = append(hosts, fmt.Sprintf("%s-%d.%s", nats.Metadata.Name, i, nats.Spec.ServiceName))
	}
	checkURLs(t, serve.NATSURL, n.port("client"), hosts...)
	if serve.NATSReplicas != nats.Spec.Replicas {
		t.Errorf("%d copies on %d NATS servers", serve.NATSReplicas, nats.Spec.Replicas)
	}
	grace := time.Duration(spec.TerminationGracePeriodSeconds) * time.Second
	if least := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second + serve.DrainTimeout; grace <= least {
		t.Errorf("a pod has %v to stop, and takes up to %v", grace, least)
	}
	if spec.SecurityContext.RunAsUser != 65532 || !spec.SecurityContext.RunAsNonRoot || !c.SecurityContext.ReadOnlyRootFilesystem {
		t.Errorf("security: %+v, %+v", spec.SecurityContext, c.SecurityContext)
	}
	if len(k.Images) != 1 || k.Images[0].Name != c.Image {
		t.Errorf("the image %q is none of %v", c.Image, k.Images)
	}
	if len(spec.Volumes) != 1 || len(c.VolumeMounts) != 1 || len(k.SecretGenerator) != 1 || spec.Volumes[0].Secret.SecretName != k.SecretGenerator[0].Name {
		t.Fatalf("the secret %v is not the one that is mounted: %v, %v", k.SecretGenerator, spec.Volumes, c.VolumeMounts)
	}
	if mode := spec.Volumes[0].Secret.DefaultMode; mode&0o007 != 0 || mode&0o040 == 0 || spec.SecurityContext.FSGroup != spec.SecurityContext.RunAsUser {
		t.Errorf("the keys have mode %o and group %d: the server's, and nobody else's, want they to be", mode, spec.SecurityContext.FSGroup)
	}
	for _, file := range []string{serve.KeyFile, serve.APIKeys} {
		if dir, name := filepath.Split(file); filepath.Clean(dir) != c.VolumeMounts[0].MountPath || !slices.Contains(k.SecretGenerator[0].Files, name) {
			t.Errorf("the file %s is not in the secret %v", file, k.SecretGenerator)
		}
	}
}

// TestKubernetesSelectors: what selects pods selects those of its own, and finds the port there.
func TestKubernetesSelectors(t *testing.T) {
	_, all := manifests(t)
	pods := map[string]object{"replyq": all["Deployment replyq"], "nats": all["StatefulSet nats"]}
	kinds := 0
	for key, o := range all {
		selector := o.Spec.Selector
		if match, ok := selector["matchLabels"].(map[string]any); ok {
			selector = match
		}
		if len(selector) == 0 {
			continue
		}
		kinds++
		pod := pods[o.Metadata.Name]
		for label, value := range selector {
			if pod.Spec.Template.Metadata.Labels[label] != value {
				t.Errorf("%s selects %v, and pods have %v", key, selector, pod.Spec.Template.Metadata.Labels)
			}
		}
		c := only(t, pod)
		for _, p := range o.Spec.Ports {
			if c.port(p.Name) != p.Port || p.TargetPort != "" && p.TargetPort != p.Name {
				t.Errorf("%s has the port %+v, and pods have %v", key, p, c.Ports)
			}
		}
	}
	if kinds != 6 {
		t.Errorf("%d objects select pods, want two workloads, services and disruption budgets each: %v", kinds, slices.Sorted(maps.Keys(all)))
	}
}

func TestKubernetesNATS(t *testing.T) {
	_, all := manifests(t)
	nats := all["StatefulSet nats"]
	c := only(t, nats)
	conf, err := os.ReadFile(filepath.Join(deployDir, "nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if all["ConfigMap nats"].Data["nats.conf"] != string(conf) {
		t.Errorf("the ConfigMap is not deploy/nats.conf")
	}
	if want := "nats:" + natsVersion(t) + "-alpine"; c.Image != want {
		t.Errorf("NATS is %s, want what the tests run: %s", c.Image, want)
	}
	var hosts []string
	for i := range nats.Spec.Replicas {
		hosts = append(hosts, fmt.Sprintf("%s-%d.%s", nats.Metadata.Name, i, nats.Spec.ServiceName))
	}
	checkURLs(t, after(c.Args, "--routes"), c.port("cluster"), hosts...)
	mounts := make(map[string]bool)
	for _, m := range c.VolumeMounts {
		mounts[m.MountPath] = true
	}
	if store := after(c.Args, "--store_dir"); !mounts[store] || len(nats.Spec.VolumeClaimTemplates) != 1 {
		t.Errorf("what NATS keeps in %q is on no volume: %v", store, c.VolumeMounts)
	}
	for _, file := range []string{after(c.Args, "-c"), after(c.Args, "--pid")} {
		if !mounts[filepath.Dir(file)] {
			t.Errorf("%s is on no volume: %v", file, c.VolumeMounts)
		}
	}
	checkNATS(t, c.Args)
}

// checkNATS has the real server check its configuration and command line.
func checkNATS(t *testing.T, args []string) {
	t.Helper()
	args = slices.Clone(args)
	args[slices.Index(args, "-c")+1] = filepath.Join(deployDir, "nats.conf")
	out, err := exec.CommandContext(t.Context(), natstest.Binary(t), append(args, "-t")...).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("is valid")) {
		t.Errorf("nats-server %v -t: %v\n%s", args, err, out)
	}
}

// A service is what a compose file says of one.
type service struct {
	Image   string
	Build   struct{ Context string }
	Command []string
	Ports   []string
	Volumes []string
	Configs []struct{ Source, Target string }
	Secrets []struct{ Source, Target string }

	Environment     map[string]string
	DependsOn       map[string]any `yaml:"depends_on"`
	StopGracePeriod string         `yaml:"stop_grace_period"`
}

func TestCompose(t *testing.T) {
	var compose struct {
		Services         map[string]service
		Configs, Secrets map[string]struct{ File string }
		Volumes          map[string]any
	}
	decodeFile(t, "compose.yaml", &compose)
	var replicas, servers []string
	for _, name := range slices.Sorted(maps.Keys(compose.Services)) {
		if strings.HasPrefix(name, "nats-") {
			servers = append(servers, name)
		} else {
			replicas = append(replicas, name)
		}
	}
	if len(servers) != 3 || len(replicas) != 3 {
		t.Fatalf("there are NATS servers %v and replicas %v, want 3 each", servers, replicas)
	}
	for _, name := range servers {
		t.Run(name, func(t *testing.T) {
			s := compose.Services[name]
			if want := "nats:" + natsVersion(t) + "-alpine"; s.Image != want {
				t.Errorf("the image is %s, want what the tests run: %s", s.Image, want)
			}
			checkURLs(t, after(s.Command, "--routes"), 6222, servers...)
			volume := name + ":" + after(s.Command, "--store_dir")
			if _, ok := compose.Volumes[name]; !ok || !slices.Contains(s.Volumes, volume) || after(s.Command, "--name") != name {
				t.Errorf("%v has the volumes %v, want %s", s.Command, s.Volumes, volume)
			}
			if len(s.Configs) != 1 || s.Configs[0].Target != after(s.Command, "-c") || compose.Configs[s.Configs[0].Source].File != "nats.conf" {
				t.Errorf("configs %v are not where %v looks", s.Configs, s.Command)
			}
			checkNATS(t, s.Command)
		})
	}
	for _, name := range replicas {
		t.Run(name, func(t *testing.T) {
			s := compose.Services[name]
			serve := parseServe(t, s.Command, s.Environment)
			checkURLs(t, serve.NATSURL, 4222, servers...)
			if serve.Node != name || serve.PeerAddress != name+":7420" || len(s.Ports) != 1 || !strings.HasSuffix(s.Ports[0], ":7420") {
				t.Errorf("node %q, peer address %q, ports %v", serve.Node, serve.PeerAddress, s.Ports)
			}
			if len(s.Secrets) != 1 || s.Secrets[0].Target != serve.KeyFile || compose.Secrets[s.Secrets[0].Source].File == "" {
				t.Errorf("secrets %v are not the key file %s", s.Secrets, serve.KeyFile)
			}
			if grace, err := time.ParseDuration(s.StopGracePeriod); err != nil || grace <= serve.DrainTimeout {
				t.Errorf("stop_grace_period %s, %v: longer than %v is needed", s.StopGracePeriod, err, serve.DrainTimeout)
			}
			if len(s.DependsOn) != len(servers) || s.Image != compose.Services[replicas[0]].Image {
				t.Errorf("it depends on %v and has the image %s", s.DependsOn, s.Image)
			}
			if _, err := os.Stat(filepath.Join(deployDir, s.Build.Context, "Dockerfile")); err != nil {
				t.Error(err)
			}
		})
	}
}
