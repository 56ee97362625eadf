import type { DescService } from '@bufbuild/protobuf';
import type { Server, ServerWritableStream, ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import type { OpenStreams } from './open-streams.ts';

/**
 * The gRPC health service: for the server as a whole (the empty name) and for each of its services.
 */
export class Health {
  readonly #names: readonly string[];
  readonly #implementation: HealthImplementation;

  constructor(services: readonly DescService[]) {
    this.#names = ['', ...services.map((service) => service.typeName)];
    this.#implementation = new HealthImplementation(Object.fromEntries(this.#names.map((name) => [name, 'SERVING'])));
  }

  /**
   * Watch streams never end by themselves, and a shutdown would wait for them, so they end with the
   * other streams.
   */
  addTo(server: Server, streams: OpenStreams): void {
    const endingWatches = {
      addService(service: ServiceDefinition, implementation: UntypedServiceImplementation) {
        const watch = implementation['watch'] as (call: ServerWritableStream<Buffer, Buffer>) => void;
        server.addService(service, {
          ...implementation,
          watch(call: ServerWritableStream<Buffer, Buffer>) {
            watch(call);
            streams.opened(call, () => {
              call.end();
            });
          },
        });
      },
    };
    this.#implementation.addToServer(endingWatches);
  }

  stop(): void {
    for (const name of this.#names) this.#implementation.setStatus(name, 'NOT_SERVING');
  }
}
