import type { DescMethod } from '@bufbuild/protobuf';
import type { BrokerProcess } from '../../bench/support/broker-process.ts';
import { Health } from '../../gen/grpc/health/v1/health_pb.js';
import { ServerReflection } from '../../gen/grpc/reflection/v1/reflection_pb.js';
import { ServerReflection as ServerReflectionAlpha } from '../../gen/grpc/reflection/v1alpha/reflection_pb.js';
import { services } from '../../src/rpc/handlers/handlers.ts';

/** Every call of each edge, by reflection, so that a new call is attacked without being named. */

export const edges = ['grpc', 'http'] as const;
export type EdgeName = (typeof edges)[number];

/** The usual one of the edge; a stream over HTTP has messages with prefixes. */
export function contentTypeOf(edge: EdgeName, { methodKind }: DescMethod): string {
  if (edge === 'grpc') return 'application/grpc';
  return methodKind === 'unary' ? 'application/proto' : 'application/connect+proto';
}

export function portOf(broker: Pick<BrokerProcess, 'grpcPort' | 'httpPort'>, edge: EdgeName): number {
  return edge === 'grpc' ? broker.grpcPort : broker.httpPort;
}

export const pathOf = ({ parent, name }: DescMethod): string => `/${parent.typeName}/${name}`;

const methodsOf = (served: readonly { readonly methods: readonly DescMethod[] }[]): readonly DescMethod[] =>
  served.flatMap(({ methods }) => methods);

export const methodsOfEdge: Readonly<Record<EdgeName, readonly DescMethod[]>> = {
  grpc: methodsOf([...services, Health, ServerReflection, ServerReflectionAlpha]),
  http: methodsOf([...services, ServerReflection]),
};

/** Whether a call may stay open by itself: a stream, or a request with a time to wait. */
export function mayWait({ methodKind, input }: DescMethod): boolean {
  return methodKind !== 'unary' || input.fields.some(({ name }) => name === 'wait');
}
