import { create, toBinary, type DescService } from '@bufbuild/protobuf';
import type { sendUnaryData, Server } from '@grpc/grpc-js';
import {
  Health as HealthService,
  HealthCheckRequestSchema,
  HealthCheckResponse_ServingStatus as ServingStatus,
  HealthCheckResponseSchema,
  HealthListResponseSchema,
} from '../../../gen/grpc/health/v1/health_pb.js';
import { invalidField, serviceNotFound } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import type { ReportBug } from '../edge/errors.ts';
import { decodeBinary } from '../translation/decode.ts';
import { asBuffer, rawService, type RawServerStream, type RawUnaryCall } from './definition.ts';
import { OpenCall } from './open-call.ts';
import type { OpenStreams } from './open-streams.ts';
import { statusOf } from './status.ts';

/**
 * The gRPC health service: for the server as a whole (the empty name) and for each of its services.
 * All of them serve until the server stops. A Watch keeps nothing of the name that it asked for.
 */
export class Health {
  readonly #names: ReadonlySet<string>;
  readonly #reportBug: ReportBug;
  /** The Watch calls of names that there are. */
  readonly #watching = new Set<RawServerStream>();
  #status = ServingStatus.SERVING;

  constructor(services: readonly DescService[], reportBug: ReportBug) {
    this.#names = new Set(['', ...services.map((service) => service.typeName)]);
    this.#reportBug = reportBug;
  }

  addTo(server: Server, streams: OpenStreams): void {
    server.addService(rawService(HealthService), {
      check: (call: RawUnaryCall, respond: sendUnaryData<Buffer>) => {
        this.#answer(call, respond, () => this.#check(call.request.take()));
      },
      list: (call: RawUnaryCall, respond: sendUnaryData<Buffer>) => {
        this.#answer(call, respond, () => this.#list());
      },
      watch: (call: RawServerStream) => {
        streams.opened(call, () => {
          call.end();
        });
        this.#watch(call);
      },
    });
  }

  stop(): void {
    this.#status = ServingStatus.NOT_SERVING;
    for (const call of this.#watching) call.write(encoded(this.#status));
  }

  #answer(call: RawUnaryCall, respond: sendUnaryData<Buffer>, answer: () => Buffer): void {
    try {
      const bytes = answer();
      OpenCall.of(call).answer(bytes.length);
      respond(null, bytes);
    } catch (error) {
      respond(statusOf(error, this.#reportBug));
    }
  }

  #check(request: Buffer): Buffer {
    const name = nameIn(request);
    if (!this.#names.has(name)) throw serviceNotFound(name);
    return encoded(this.#status);
  }

  #list(): Buffer {
    const statuses = Object.fromEntries([...this.#names].map((name) => [name, { status: this.#status }]));
    return asBuffer(toBinary(HealthListResponseSchema, create(HealthListResponseSchema, { statuses })));
  }

  /** The Watch of an unknown name stays open, as the protocol says. */
  #watch(call: RawServerStream): void {
    try {
      const isKnown = this.#names.has(nameIn(call.request.take()));
      call.write(encoded(isKnown ? this.#status : ServingStatus.SERVICE_UNKNOWN));
      if (!isKnown || call.cancelled) return;
      this.#watching.add(call);
      call.once('cancelled', () => this.#watching.delete(call));
    } catch (error) {
      call.emit('error', statusOf(error, this.#reportBug));
    }
  }
}

/** @throws Rejection */
function nameIn(request: Buffer): string {
  const max = limits.healthNameBytesMax;
  const { service } = decodeBinary(HealthCheckRequestSchema, request);
  if (Buffer.byteLength(service) > max) throw invalidField('service', `must have at most ${max} bytes`);
  return service;
}

function encoded(status: ServingStatus): Buffer {
  return asBuffer(toBinary(HealthCheckResponseSchema, create(HealthCheckResponseSchema, { status })));
}
