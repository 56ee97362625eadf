import { create, toBinary, type DescFile, type DescService, type MessageInitShape } from '@bufbuild/protobuf';
import { nestedTypes } from '@bufbuild/protobuf/reflect';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import {
  ServerReflectionResponseSchema,
  type ServerReflectionRequest,
} from '../../../gen/grpc/reflection/v1/reflection_pb.js';
import { present } from '../../errors/present.ts';
import { invalidField } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import { codes } from '../edge/error-row.ts';

type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>['messageResponse']>;

/**
 * Server reflection over the generated descriptors, so that `buf curl` and grpcurl need no proto
 * files. Each file is sent with all of its imports, because `buf curl` finds no service without
 * them (@grpc/reflection leaves them out).
 */
export class Reflection {
  readonly #services: readonly DescService[];
  readonly #files = new Map<string, DescFile>();
  readonly #fileOfSymbol = new Map<string, DescFile>();
  /** Encoded once, because one read of a socket may bring hundreds of questions. */
  readonly #encoded = new Map<DescFile, Uint8Array>();

  constructor(services: readonly DescService[]) {
    this.#services = services;
    for (const service of services) this.#add(service.file);
  }

  /** @throws Rejection INVALID_FIELD */
  answer(request: ServerReflectionRequest) {
    // The answer has the question in it.
    const { host, messageRequest } = request;
    const max = limits.reflectionNamesCharsMax;
    if (host.length > max) throw invalidField('host', `must have at most ${max} characters`);
    if (nameIn(messageRequest).length > max) {
      throw invalidField('message_request', `must have at most ${max} characters`);
    }
    return create(ServerReflectionResponseSchema, {
      validHost: request.host,
      originalRequest: request,
      messageResponse: this.#answer(request.messageRequest),
    });
  }

  #answer(question: ServerReflectionRequest['messageRequest']): Answer {
    switch (question.case) {
      case 'listServices': {
        const service = this.#services.map(({ typeName }) => ({ name: typeName }));
        return { case: 'listServicesResponse', value: { service } };
      }
      case 'fileByFilename':
        return this.#fileAnswer(this.#files.get(question.value), question.value);
      case 'fileContainingSymbol':
        return this.#fileAnswer(this.#fileOfSymbol.get(question.value), question.value);
      default:
        return notFound('there are no extensions');
    }
  }

  #fileAnswer(file: DescFile | undefined, asked: string): Answer {
    if (file === undefined) return notFound(`there is no ${asked}`);
    const fileDescriptorProto = Array.from(withImports(file), (each) =>
      present(this.#encoded.get(each), 'every file is encoded'),
    );
    return { case: 'fileDescriptorResponse', value: { fileDescriptorProto } };
  }

  #add(file: DescFile): void {
    if (this.#files.has(fileName(file))) return;
    this.#files.set(fileName(file), file);
    this.#encoded.set(file, toBinary(FileDescriptorProtoSchema, file.proto));
    for (const type of nestedTypes(file)) {
      this.#fileOfSymbol.set(type.typeName, file);
      if (type.kind !== 'service') continue;
      for (const method of type.methods) this.#fileOfSymbol.set(`${type.typeName}.${method.name}`, file);
    }
    for (const dependency of file.dependencies) this.#add(dependency);
  }
}

function nameIn({ case: kind, value }: ServerReflectionRequest['messageRequest']): string {
  if (kind === undefined) return '';
  return typeof value === 'string' ? value : value.containingType;
}

function fileName(file: DescFile): string {
  return file.proto.name;
}

function withImports(file: DescFile, found = new Set<DescFile>()): Set<DescFile> {
  found.add(file);
  for (const dependency of file.dependencies) if (!found.has(dependency)) withImports(dependency, found);
  return found;
}

function notFound(errorMessage: string): Answer {
  return { case: 'errorResponse', value: { errorCode: codes.NOT_FOUND, errorMessage } };
}
