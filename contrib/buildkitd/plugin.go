// Package plugin is an exporter of buildkitd that hands each export to a server outside of it: one that implements
// buildkit.exporter.v1. The server fetches layers, files and attestations through a session, as buildkitd does with
// its own clients, so nothing has to dial the daemon.
package plugin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	cerrdefs "github.com/containerd/errdefs"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/cache"
	cacheconfig "github.com/moby/buildkit/cache/config"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage"
	"github.com/moby/buildkit/exporter/local"
	v1 "github.com/moby/buildkit/exporter/plugin/v1"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	sessioncontent "github.com/moby/buildkit/session/content"
	"github.com/moby/buildkit/session/grpchijack"
	"github.com/moby/buildkit/util/compression"
	"github.com/moby/buildkit/util/contentutil"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/buildkit/util/progress"
	"github.com/moby/buildkit/version"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pkg/errors"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Exporter is one type of the server behind Conn. All fields but Registries are required.
type Exporter struct {
	Type           string
	Conn           *grpc.ClientConn
	SessionManager *session.Manager
	ContentStore   content.Store
	LeaseManager   leases.Manager
	Registries     map[string]*v1.RegistryHost // how to reach registries, by host, as in buildkitd.toml
}

// Resolve asks the server to check the attributes.
func (e *Exporter) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	resolved, err := v1.NewExporterServiceClient(e.Conn).Resolve(ctx, &v1.ResolveRequest{Id: int32(id), Type: e.Type, Attrs: attrs})
	if err != nil {
		return nil, grpcerrors.FromGRPC(err)
	}
	config, err := compressionConfig(resolved.Compression)
	return &instance{Exporter: e, id: id, attrs: attrs, resolved: resolved, config: config}, err
}

type instance struct {
	*Exporter
	id       int
	attrs    map[string]string
	resolved *v1.ResolveResponse
	config   compression.Config
}

func (i *instance) ID() int                  { return i.id }
func (i *instance) Name() string             { return i.resolved.Name }
func (i *instance) Type() string             { return i.Exporter.Type }
func (i *instance) Attrs() map[string]string { return i.attrs }
func (i *instance) Config() *exporter.Config { return exporter.NewConfigWithCompression(i.config) }

// Export runs the export on the server, and keeps the documents of its image.
func (i *instance) Export(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo) (_ map[string]string, finalize exporter.FinalizeFunc, descref exporter.DescriptorReference, err error) {
	getCtx, cancelGet := context.WithTimeoutCause(ctx, 5*time.Second, errors.WithStack(context.DeadlineExceeded))
	defer cancelGet()
	caller, err := i.SessionManager.Get(getCtx, info.SessionID, false)
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, releaseLease, err := leaseutil.WithLease(ctx, i.LeaseManager, leaseutil.MakeTemporary)
	if err != nil {
		return nil, nil, nil, err
	}
	// The session, and the lease on what it serves, have to outlive Export if there is something to finalize or to record in
	// the history. buildkitd does neither if another exporter fails; then they end with the client's session.
	sessionCtx, cancelSession := context.WithCancelCause(context.WithoutCancel(ctx))
	end := sync.OnceFunc(func() {
		cancelSession(errors.WithStack(context.Canceled))
		releaseLease(context.WithoutCancel(ctx))
	})
	context.AfterFunc(caller.Context(context.Background()), end)
	stop := context.AfterFunc(ctx, end)
	defer stop()
	defer func() {
		if finalize == nil && descref == nil {
			end()
		}
	}()

	refs := &refs{
		MultiProvider: contentutil.NewMultiProvider(nil),
		ctx:           sessionCtx,
		sessionID:     info.SessionID,
		byID:          map[string]cache.ImmutableRef{},
		contents:      map[string]func(context.Context) ([]byte, error){},
	}
	req := &v1.ExportRequest{
		Id:     int32(i.id),
		Type:   i.Exporter.Type,
		Attrs:  i.attrs,
		Source: refs.source(src),
		Build: &v1.BuildInfo{
			Ref:                  info.Ref,
			CompatibilityVersion: int64(info.CompatibilityVersion),
			Builder:              "buildkit-" + version.Version,
			Registries:           i.Registries,
		},
		ReleaseWithSession: true,
		TakesOutput:        proto.Bool(caller.Supports(fileSend+"DiffCopy") || caller.Supports(writeContent)),
	}
	if i.resolved.UsesInlineCache && info.InlineCache != nil {
		res, err := info.InlineCache(ctx)
		if err != nil {
			return nil, nil, nil, err
		}
		if res != nil && res.Ref != nil {
			req.Build.InlineCache = map[string][]byte{"": res.Ref.Data}
		} else if res != nil {
			req.Build.InlineCache = map[string][]byte{}
			for id, entry := range res.Refs {
				if entry != nil {
					req.Build.InlineCache[id] = entry.Data
				}
			}
		}
	}
	s, err := session.NewSession(ctx, "")
	if err != nil {
		return nil, nil, nil, err
	}
	req.Build.SessionId = s.ID()
	refs.serve(s, caller)
	// Cancelling ends the session. Session.Close would wait for a server that hangs.
	go s.Run(sessionCtx, grpchijack.Dialer(controlapi.NewControlClient(i.Conn)))

	server := v1.NewExporterServiceClient(i.Conn)
	stream, err := server.Export(ctx, req)
	if err != nil {
		return nil, nil, nil, grpcerrors.FromGRPC(err)
	}
	last, err := follow(ctx, stream.Recv)
	if err != nil {
		return nil, nil, nil, err
	}
	result := last.GetResult()
	for _, blob := range result.GetBlobs() {
		desc := ocispecs.Descriptor{MediaType: blob.MediaType, Digest: digest.Digest(blob.Digest), Size: int64(len(blob.Data))}
		if err := content.WriteBlob(ctx, i.ContentStore, "exporter-plugin-"+blob.Digest, bytes.NewReader(blob.Data), desc, content.WithLabels(blob.Labels)); err != nil {
			return nil, nil, nil, errors.Wrapf(err, "failed to keep %s", blob.Digest)
		}
	}
	if d := result.GetDescriptor_(); d != nil && len(result.Blobs) > 0 {
		desc := ocispecs.Descriptor{MediaType: d.MediaType, Digest: digest.Digest(d.Digest), Size: d.Size, Annotations: d.Annotations}
		descref = containerimage.NewDescriptorReference(desc, func(context.Context) error { end(); return nil })
	}
	if token := result.GetFinalizeToken(); token != "" {
		finalize = func(ctx context.Context) error {
			stream, err := server.Finalize(ctx, &v1.FinalizeRequest{FinalizeToken: token})
			if err == nil {
				_, err = follow(ctx, stream.Recv)
			}
			return grpcerrors.FromGRPC(err)
		}
	}
	return result.GetResponse(), finalize, descref, nil
}

// follow shows the progress that a stream carries, and returns its last message, which has the result.
func follow[E interface {
	GetProgress() *controlapi.StatusResponse
}](ctx context.Context, receive func() (E, error)) (last E, _ error) {
	for {
		event, err := receive()
		if errors.Is(err, io.EOF) {
			return last, nil
		} else if err != nil {
			return last, grpcerrors.FromGRPC(err)
		}
		last = event
		if event.GetProgress() == nil {
			continue
		}
		// No vertex means that of the export, which ctx carries.
		write := func(vertex digest.Digest, id string, value any) {
			var opts []progress.WriterOption
			if vertex != "" {
				opts = append(opts, progress.WithMetadata("vertex", vertex))
			}
			pw, _, _ := progress.NewFromContext(ctx, opts...)
			pw.Write(id, value)
			pw.Close()
		}
		update := client.NewSolveStatus(event.GetProgress())
		for _, v := range update.Vertexes {
			if v.Digest != "" {
				write(v.Digest, v.Digest.String(), *v)
			}
		}
		for _, s := range update.Statuses {
			write(s.Vertex, s.ID, progress.Status{Action: s.Name, Current: int(s.Current), Total: int(s.Total), Started: s.Started, Completed: s.Completed})
		}
		for _, l := range update.Logs {
			write(l.Vertex, identity.NewID(), *l)
		}
		for _, w := range update.Warnings {
			write(w.Vertex, identity.NewID(), *w)
		}
	}
}

func compressionConfig(in *v1.Compression) (compression.Config, error) {
	attrs := map[string]string{"force-compression": strconv.FormatBool(in.GetForce())}
	if in.GetType() != "" {
		attrs["compression"] = in.Type
	}
	if in != nil && in.Level != nil {
		attrs["compression-level"] = strconv.Itoa(int(*in.Level))
	}
	return compression.ParseAttributes(attrs)
}

const (
	fileSend     = "/moby.filesync.v1.FileSend/"
	auth         = "/moby.filesync.v1.Auth/"
	writeContent = "/containerd.services.content.v1.Content/Write"
)

// refs serves one build's refs to the exporter: layers, files, and attestations that need layers. Of its content store,
// only reading works.
type refs struct {
	v1.UnimplementedRefServiceServer
	*contentutil.MultiProvider                 // the blobs that GetRemote has named
	ctx                        context.Context // of the export: its lease, progress and trace; ends with the session
	sessionID                  string
	byID                       map[string]cache.ImmutableRef
	contents                   map[string]func(context.Context) ([]byte, error)
}

// source describes a build result, and remembers what the server may ask for.
func (r *refs) source(src *exporter.Source) *v1.Source {
	out := &v1.Source{Ref: r.ref(src.Ref), Metadata: src.Metadata, Attestations: map[string]*v1.AttestationList{}}
	if src.Refs != nil {
		out.Refs = &v1.RefMap{Refs: map[string]*v1.Ref{}}
	}
	for id, ref := range src.Refs {
		out.Refs.Refs[id] = r.ref(ref)
	}
	for id, attestations := range src.Attestations {
		out.Attestations[id] = &v1.AttestationList{}
		for n, att := range attestations {
			a := &v1.Attestation{Kind: att.Kind, Path: att.Path, PredicateType: att.InToto.PredicateType, Metadata: att.Metadata, Ref: r.ref(att.Ref)}
			for _, subject := range att.InToto.Subjects {
				digests := make([]string, len(subject.Digest))
				for k, dgst := range subject.Digest {
					digests[k] = dgst.String()
				}
				a.Subjects = append(a.Subjects, &v1.Subject{Kind: subject.Kind, Name: subject.Name, Digests: digests})
			}
			if att.ContentFunc != nil {
				a.ContentId = fmt.Sprintf("%s/%d", id, n)
				r.contents[a.ContentId] = att.ContentFunc
			}
			out.Attestations[id].Attestations = append(out.Attestations[id].Attestations, a)
		}
	}
	return out
}

func (r *refs) ref(ref cache.ImmutableRef) *v1.Ref {
	if ref == nil {
		return nil
	}
	r.byID[ref.ID()] = ref
	return &v1.Ref{Id: ref.ID()}
}

// serve offers the refs in a session, and what the build's client offers: output files, its OCI layout, credentials.
func (r *refs) serve(s *session.Session, caller session.Caller) {
	stores := map[string]content.Store{"refs": readOnly{r.MultiProvider, r.ctx}}
	if caller.Supports(writeContent) {
		stores["export"] = sessioncontent.NewCallerStore(caller, "export")
	}
	s.Allow(sessioncontent.NewAttachable(stores))
	s.Allow(service(func(server *grpc.Server) { v1.RegisterRefServiceServer(server, r) }))
	for name, methods := range map[string][]string{fileSend: {"DiffCopy"}, auth: {"Credentials", "FetchToken", "GetTokenAuthority", "VerifyTokenAuthority"}} {
		desc := &grpc.ServiceDesc{ServiceName: name[1 : len(name)-1], HandlerType: (*any)(nil)}
		for _, method := range methods {
			if caller.Supports(name + method) {
				desc.Streams = append(desc.Streams, grpc.StreamDesc{StreamName: method, Handler: forward(caller, name+method), ClientStreams: true, ServerStreams: true})
			}
		}
		s.Allow(service(func(server *grpc.Server) { server.RegisterService(desc, nil) }))
	}
}

type service func(*grpc.Server)

func (register service) Register(server *grpc.Server) { register(server) }

// forward passes a call on to the client, message by message: Empty keeps the fields that it does not know.
func forward(caller session.Caller, method string) grpc.StreamHandler {
	pump := func(to, from grpc.Stream) error {
		for {
			message := &emptypb.Empty{}
			if err := from.RecvMsg(message); err != nil {
				return err
			}
			if err := to.SendMsg(message); err != nil {
				return err
			}
		}
	}
	return func(_ any, in grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(in.Context())
		out, err := caller.Conn().NewStream(metadata.NewOutgoingContext(in.Context(), md), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
		if err != nil {
			return err
		}
		go func() {
			pump(out, in)
			out.CloseSend()
		}()
		if err := pump(in, out); !errors.Is(err, io.EOF) {
			return err
		}
		return nil
	}
}

// with calls work with a ref and the export's context, which here also ends with the call.
func with[T any](r *refs, call context.Context, id string, work func(context.Context, cache.ImmutableRef) (T, error)) (T, error) {
	ref, ok := r.byID[id]
	if !ok {
		return *new(T), status.Errorf(codes.NotFound, "no ref %q in this build", id)
	}
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	stop := context.AfterFunc(call, func() { cancel(context.Cause(call)) })
	defer stop()
	return work(ctx, ref)
}

func (r *refs) GetRemote(call context.Context, req *v1.GetRemoteRequest) (*v1.GetRemoteResponse, error) {
	return with(r, call, req.RefId, func(ctx context.Context, ref cache.ImmutableRef) (*v1.GetRemoteResponse, error) {
		config, err := compressionConfig(req.Compression)
		if err != nil {
			return nil, err
		}
		remotes, err := ref.GetRemotes(ctx, true, cacheconfig.RefConfig{Compression: config}, false, session.NewGroup(r.sessionID))
		if err != nil {
			return nil, err
		}
		resp := &v1.GetRemoteResponse{}
		for _, d := range remotes[0].Descriptors {
			r.Add(d.Digest, remotes[0].Provider)
			resp.Descriptors = append(resp.Descriptors, &v1.Descriptor{MediaType: d.MediaType, Digest: d.Digest.String(), Size: d.Size, Urls: d.URLs, Annotations: d.Annotations})
		}
		return resp, nil
	})
}

func (r *refs) GetLayerChain(call context.Context, req *v1.GetLayerChainRequest) (*v1.GetLayerChainResponse, error) {
	return with(r, call, req.RefId, func(ctx context.Context, ref cache.ImmutableRef) (*v1.GetLayerChainResponse, error) {
		chain := ref.LayerChain()
		defer chain.Release(context.WithoutCancel(ctx))
		resp := &v1.GetLayerChainResponse{}
		for _, l := range chain {
			resp.Layers = append(resp.Layers, &v1.Layer{Id: l.ID(), Description: l.GetDescription()})
			if created := l.GetCreatedAt(); !created.IsZero() {
				resp.Layers[len(resp.Layers)-1].CreatedAt = timestamppb.New(created)
			}
		}
		return resp, nil
	})
}

func (r *refs) ReadFiles(stream v1.RefService_ReadFilesServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	_, err := with(r, stream.Context(), append(md.Get("ref-id-bin"), "")[0], func(ctx context.Context, ref cache.ImmutableRef) (any, error) {
		fs, unmount, err := local.CreateFS(ctx, r.sessionID, "", ref, nil, time.Time{}, false, local.CreateFSOpts{})
		if err != nil {
			return nil, err
		}
		defer unmount()
		return nil, fsutil.Send(ctx, stream, fs, nil)
	})
	return err
}

func (r *refs) GetAttestation(_ context.Context, req *v1.GetAttestationRequest) (*v1.GetAttestationResponse, error) {
	load, ok := r.contents[req.ContentId]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no attestation %q in this build", req.ContentId)
	}
	data, err := load(r.ctx)
	return &v1.GetAttestationResponse{Content: data}, err
}

// readOnly is a store of the blobs of refs. Lazy ones are pulled when they are read, with the export's context.
type readOnly struct {
	*contentutil.MultiProvider
	ctx context.Context
}

var errReadOnly = errors.Wrap(cerrdefs.ErrPermissionDenied, "the blobs of refs can only be read")

func (s readOnly) ReaderAt(_ context.Context, desc ocispecs.Descriptor) (content.ReaderAt, error) {
	return s.MultiProvider.ReaderAt(s.ctx, desc)
}
func (readOnly) Update(_ context.Context, i content.Info, _ ...string) (content.Info, error) {
	return i, errReadOnly
}
func (readOnly) Walk(context.Context, content.WalkFunc, ...string) error      { return errReadOnly }
func (readOnly) Delete(context.Context, digest.Digest) error                  { return errReadOnly }
func (readOnly) Status(context.Context, string) (s content.Status, err error) { return s, errReadOnly }
func (readOnly) ListStatuses(context.Context, ...string) ([]content.Status, error) {
	return nil, errReadOnly
}
func (readOnly) Abort(context.Context, string) error { return errReadOnly }
func (readOnly) Writer(context.Context, ...content.WriterOpt) (content.Writer, error) {
	return nil, errReadOnly
}
