//! The services described to gRPC reflection: `proto/*.proto`, compiled at the start. What is read
//! is the part of the language that these files use: messages, enums, oneofs, maps, services; a type
//! is a scalar, a name of the same file's package, or a full name with a dot before it.

use std::collections::HashSet;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, MessageOptions, MethodDescriptorProto,
    OneofDescriptorProto, ServiceDescriptorProto,
};

/// The names that importing files and clients know them by.
const FILES: [(&str, &str); 10] = [
    (
        "google/protobuf/timestamp.proto",
        include_str!("proto/timestamp.proto"),
    ),
    (
        "google/protobuf/duration.proto",
        include_str!("proto/duration.proto"),
    ),
    (
        "opentelemetry/proto/common/v1/common.proto",
        include_str!("proto/otlp_common.proto"),
    ),
    (
        "opentelemetry/proto/resource/v1/resource.proto",
        include_str!("proto/otlp_resource.proto"),
    ),
    (
        "opentelemetry/proto/trace/v1/trace.proto",
        include_str!("proto/otlp_trace.proto"),
    ),
    ("model.proto", include_str!("proto/model.proto")),
    ("api_v2/query.proto", include_str!("proto/api_v2.proto")),
    (
        "jaeger/expression/v1/expression.proto",
        include_str!("proto/expression.proto"),
    ),
    (
        "api_v3/query_service.proto",
        include_str!("proto/api_v3.proto"),
    ),
    (
        "grpc/health/v1/health.proto",
        include_str!("proto/health.proto"),
    ),
];

/// Everything that is served, and what it refers to.
pub(super) fn file_descriptor_set() -> FileDescriptorSet {
    let mut file = Vec::with_capacity(FILES.len());
    let mut enums = HashSet::new();
    for (name, text) in FILES {
        let compiled = Compiler {
            tokens: tokens(text),
            at: 0,
            package: String::new(),
        }
        .file(name);
        let package = compiled.package().to_owned();
        let mut add = |path: &str, found: &[EnumDescriptorProto]| {
            enums.extend(found.iter().map(|e| format!(".{path}.{}", e.name())));
        };
        add(&package, &compiled.enum_type);
        for message in &compiled.message_type {
            add(&format!("{package}.{}", message.name()), &message.enum_type);
        }
        file.push(compiled);
    }
    // Only now it is known what is an enum.
    for message in file.iter_mut().flat_map(|file| &mut file.message_type) {
        tell_enums(message, &enums);
    }
    FileDescriptorSet { file }
}

fn tell_enums(message: &mut DescriptorProto, enums: &HashSet<String>) {
    for field in &mut message.field {
        if field
            .type_name
            .as_ref()
            .is_some_and(|name| enums.contains(name))
        {
            field.set_type(Type::Enum);
        }
    }
    for nested in &mut message.nested_type {
        tell_enums(nested, enums);
    }
}

fn tokens(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        let length = if first == '"' {
            rest[1..].find('"').map_or(rest.len(), |end| end + 2)
        } else if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        out.push(token);
        rest = after.trim_start();
    }
    out
}

/// Reads one of our own files: what is wrong with one is a mistake that the tests find.
struct Compiler<'a> {
    tokens: Vec<&'a str>,
    at: usize,
    package: String,
}

impl<'a> Compiler<'a> {
    fn file(mut self, name: &str) -> FileDescriptorProto {
        let mut file = FileDescriptorProto {
            name: Some(name.to_owned()),
            syntax: Some("proto3".to_owned()),
            ..FileDescriptorProto::default()
        };
        while self.at < self.tokens.len() {
            match self.next() {
                "package" => {
                    self.package = self.next().to_owned();
                    file.package = Some(self.package.clone());
                    self.next();
                }
                "import" => {
                    file.dependency
                        .push(self.next().trim_matches('"').to_owned());
                    self.next();
                }
                "message" => file.message_type.push(self.message()),
                "enum" => file.enum_type.push(self.enumeration()),
                "service" => file.service.push(self.service()),
                // The syntax.
                _ => self.skip(";"),
            }
        }
        file
    }

    fn message(&mut self) -> DescriptorProto {
        let mut message = DescriptorProto {
            name: Some(self.next().to_owned()),
            ..DescriptorProto::default()
        };
        self.next();
        loop {
            match self.next() {
                "}" | "" => return message,
                "message" => {
                    let nested = self.message();
                    message.nested_type.push(nested);
                }
                "enum" => {
                    let nested = self.enumeration();
                    message.enum_type.push(nested);
                }
                "oneof" => {
                    let index = message.oneof_decl.len() as i32;
                    message.oneof_decl.push(OneofDescriptorProto {
                        name: Some(self.next().to_owned()),
                        ..OneofDescriptorProto::default()
                    });
                    self.next();
                    loop {
                        match self.next() {
                            "}" | "" => break,
                            kind => {
                                let mut field = self.field(Label::Optional, kind);
                                field.oneof_index = Some(index);
                                message.field.push(field);
                            }
                        }
                    }
                }
                "repeated" => {
                    let kind = self.next();
                    let field = self.field(Label::Repeated, kind);
                    message.field.push(field);
                }
                "map" => {
                    let field = self.map(&mut message);
                    message.field.push(field);
                }
                kind => {
                    let field = self.field(Label::Optional, kind);
                    message.field.push(field);
                }
            }
        }
    }

    /// `NAME = NUMBER ;` behind the type.
    fn field(&mut self, label: Label, kind: &str) -> FieldDescriptorProto {
        let name = self.next();
        self.next();
        let number = self.next();
        self.next();
        let mut field = new_field(name, number.parse().unwrap_or(0), label);
        self.set_type(&mut field, kind);
        field
    }

    /// `<KEY, VALUE> NAME = NUMBER ;`: a repeated message with a key and a value.
    fn map(&mut self, message: &mut DescriptorProto) -> FieldDescriptorProto {
        self.next();
        let key = self.next();
        self.next();
        let value = self.next();
        self.next();
        let name = self.tokens.get(self.at).copied().unwrap_or_default();
        let (first, rest) = name.split_at(name.len().min(1));
        let entry = format!("{}{rest}Entry", first.to_ascii_uppercase());
        let full = format!("{}.{entry}", message.name());
        let field = self.field(Label::Repeated, &full);
        let mut fields = [
            new_field("key", 1, Label::Optional),
            new_field("value", 2, Label::Optional),
        ];
        self.set_type(&mut fields[0], key);
        self.set_type(&mut fields[1], value);
        message.nested_type.push(DescriptorProto {
            name: Some(entry),
            field: fields.into(),
            options: Some(MessageOptions {
                map_entry: Some(true),
                ..MessageOptions::default()
            }),
            ..DescriptorProto::default()
        });
        field
    }

    fn set_type(&self, field: &mut FieldDescriptorProto, kind: &str) {
        let scalar = match kind {
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "bool" => Type::Bool,
            "int32" => Type::Int32,
            "int64" => Type::Int64,
            "uint32" => Type::Uint32,
            "uint64" => Type::Uint64,
            "fixed32" => Type::Fixed32,
            "fixed64" => Type::Fixed64,
            "double" => Type::Double,
            name => {
                field.type_name = Some(self.full_name(name));
                Type::Message
            }
        };
        field.set_type(scalar);
    }

    fn full_name(&self, name: &str) -> String {
        if name.starts_with('.') {
            name.to_owned()
        } else {
            format!(".{}.{name}", self.package)
        }
    }

    fn enumeration(&mut self) -> EnumDescriptorProto {
        let mut enumeration = EnumDescriptorProto {
            name: Some(self.next().to_owned()),
            ..EnumDescriptorProto::default()
        };
        self.next();
        loop {
            match self.next() {
                "}" | "" => return enumeration,
                name => {
                    self.next();
                    let number = self.next().parse().unwrap_or(0);
                    self.next();
                    enumeration.value.push(EnumValueDescriptorProto {
                        name: Some(name.to_owned()),
                        number: Some(number),
                        ..EnumValueDescriptorProto::default()
                    });
                }
            }
        }
    }

    fn service(&mut self) -> ServiceDescriptorProto {
        let mut service = ServiceDescriptorProto {
            name: Some(self.next().to_owned()),
            ..ServiceDescriptorProto::default()
        };
        self.next();
        // `rpc NAME (INPUT) returns (stream OUTPUT) ;`
        while self.next() == "rpc" {
            let name = self.next();
            self.next();
            let input = self.next();
            self.skip("(");
            let first = self.next();
            let streaming = first == "stream";
            let output = if streaming { self.next() } else { first };
            self.skip(";");
            service.method.push(MethodDescriptorProto {
                name: Some(name.to_owned()),
                input_type: Some(self.full_name(input)),
                output_type: Some(self.full_name(output)),
                server_streaming: Some(streaming),
                ..MethodDescriptorProto::default()
            });
        }
        service
    }

    /// The next token; empty at the end.
    fn next(&mut self) -> &'a str {
        let token = self.tokens.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        token
    }

    /// Goes on behind the next such token.
    fn skip(&mut self, token: &str) {
        while !matches!(self.next(), "") {
            if self.tokens[self.at - 1] == token {
                return;
            }
        }
    }
}

fn new_field(name: &str, number: i32, label: Label) -> FieldDescriptorProto {
    let mut field = FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        ..FieldDescriptorProto::default()
    };
    field.set_label(label);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_defined_in_a_file_that_is_imported() {
        let set = file_descriptor_set();
        let mut defined = HashSet::new();
        let mut used = Vec::new();
        for file in &set.file {
            let package = file.package();
            for message in &file.message_type {
                walk(&format!(".{package}"), message, &mut defined, &mut used);
            }
            for enumeration in &file.enum_type {
                defined.insert(format!(".{package}.{}", enumeration.name()));
            }
            for method in file.service.iter().flat_map(|service| &service.method) {
                used.push(method.input_type().to_owned());
                used.push(method.output_type().to_owned());
            }
            for import in &file.dependency {
                assert!(FILES.iter().any(|(name, _)| name == import), "{import}");
            }
        }
        for name in used {
            assert!(defined.contains(&name), "{name} is nowhere defined");
        }
        let methods: Vec<usize> = (set.file.iter().flat_map(|file| &file.service))
            .map(|service| service.method.len())
            .collect();
        assert_eq!(methods, [6, 6, 2]);
    }

    fn walk(
        path: &str,
        message: &DescriptorProto,
        defined: &mut HashSet<String>,
        used: &mut Vec<String>,
    ) {
        let path = format!("{path}.{}", message.name());
        for field in &message.field {
            assert!(field.number() > 0, "{path}.{}", field.name());
            used.extend(field.type_name.clone());
        }
        for nested in &message.nested_type {
            walk(&path, nested, defined, used);
        }
        for enumeration in &message.enum_type {
            defined.insert(format!("{path}.{}", enumeration.name()));
        }
        defined.insert(path);
    }
}
