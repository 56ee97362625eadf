import { readdirSync, readFileSync } from 'node:fs';
import { create, type DescMethod, type DescMethodStreaming, type DescMethodUnary } from '@bufbuild/protobuf';
import { ConnectError, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { ErrorInfoSchema } from '../../gen/google/rpc/error_details_pb.js';
import { brokerFull } from '../../src/errors/rejections/broker.ts';
import { actionOf, type Action } from '../../src/rpc/edge/actions.ts';
import { services } from '../../src/rpc/handlers/handlers.ts';
import { serve } from './serving.ts';

const methods = services.flatMap((service) => service.methods);

/** Both edges, with a check that rejects every caller and notes the action of each method. */
async function refusing() {
  const asked = new Map<string, Action>();
  const serving = await serve({
    authorize: (_caller, action, method) => {
      asked.set(method.name, action);
      // No other part of the server rejects with this reason here.
      return brokerFull();
    },
  });
  return { serving, asked };
}

async function reasonOf(transport: Transport, method: DescMethod): Promise<string | undefined> {
  const input = create(method.input);
  const none = { signal: undefined, timeoutMs: undefined, header: undefined };
  try {
    if (method.methodKind === 'unary') {
      await transport.unary(method as DescMethodUnary, none.signal, none.timeoutMs, none.header, input);
    } else {
      const inputs = (async function* () {
        yield input;
      })();
      const streaming = method as DescMethodStreaming;
      const { message } = await transport.stream(streaming, none.signal, none.timeoutMs, none.header, inputs);
      for await (const _ of message) break;
    }
  } catch (error) {
    return ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason;
  }
  return undefined;
}

test.each(['gRPC', 'HTTP'])('no RPC over %s reaches the broker for a caller that may not make it', async (edge) => {
  const { serving, asked } = await refusing();
  const transport =
    edge === 'gRPC'
      ? createGrpcTransport({ baseUrl: `http://127.0.0.1:${serving.grpcPort}` })
      : createConnectTransport({ baseUrl: serving.httpUrl, httpVersion: '2' });
  const reasons = new Map<string, string | undefined>();
  for (const method of methods) reasons.set(method.name, await reasonOf(transport, method));
  expect(Object.fromEntries(reasons)).toEqual(Object.fromEntries(methods.map(({ name }) => [name, 'BROKER_FULL'])));
  expect(Object.fromEntries(asked)).toEqual(
    Object.fromEntries(methods.map((method) => [method.name, actionOf(method)])),
  );
  expect(serving.broker.calls).toEqual([]);
});

test('no path of the operators reaches the broker for a caller that may not make its calls', async () => {
  const { serving, asked } = await refusing();
  for (const path of ['', '/billing', '/billing/assignments']) {
    const answer = await fetch(`${serving.httpUrl}/consumer-groups${path}`);
    expect(await answer.json()).toMatchObject({ reason: 'BROKER_FULL' });
  }
  expect([...asked.keys()].sort()).toEqual(['GetGroup', 'ListGroups', 'ListMembers', 'ListRebalances']);
  expect(serving.broker.calls).toEqual([]);
});

test('every RPC of the proto is served, and so has an action', () => {
  const folder = new URL('../../proto/millrace/v1/', import.meta.url);
  const texts = readdirSync(folder).map((file) => readFileSync(new URL(file, folder), 'utf8'));
  const declared = texts.flatMap((text) => Array.from(text.matchAll(/^ {2}rpc (\w+)\(/gm), ([, name]) => name!));
  expect(methods.map(({ name }) => name).sort()).toEqual(declared.sort());
});
