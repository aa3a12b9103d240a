//! What a function of a given type might return without doing its work. Whether the type allows it is for the compiler to say.

use syn::{GenericArgument, PathArguments, ReturnType, Type};

pub(crate) fn values(output: &ReturnType) -> Vec<String> {
    match output {
        ReturnType::Default => vec![String::new()],
        ReturnType::Type(_, of) => of_type(of),
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn of_type(of: &Type) -> Vec<String> {
    match of {
        Type::Never(_) | Type::ImplTrait(_) | Type::Ptr(_) => Vec::new(),
        Type::Tuple(tuple) if tuple.elems.is_empty() => texts(&["()"]),
        Type::Tuple(tuple) => {
            let each = tuple.elems.iter().map(of_type).collect::<Vec<_>>();
            let first = each.iter().filter_map(|values| values.first().cloned()).collect::<Vec<_>>();
            let last = each.iter().filter_map(|values| values.last().cloned()).collect::<Vec<_>>();
            let mut tuples = Vec::new();
            for values in [first, last] {
                let tuple_text = format!("({},)", values.join(", "));
                if values.len() == each.len() && !tuples.contains(&tuple_text) {
                    tuples.push(tuple_text);
                }
            }
            tuples
        }
        Type::Reference(reference) => match &*reference.elem {
            Type::Slice(_) if reference.mutability.is_none() => texts(&["&[]"]),
            Type::Path(path) if path.path.is_ident("str") => texts(&["\"\"", "\"xyzzy\""]),
            _ => Vec::new(),
        },
        Type::Path(path) => of_path(&path.path),
        _ => texts(&["Default::default()"]),
    }
}

fn of_path(path: &syn::Path) -> Vec<String> {
    let Some(last) = path.segments.last() else { return Vec::new() };
    let inner = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => {
            arguments.args.iter().find_map(|argument| match argument {
                GenericArgument::Type(of) => Some(of_type(of)),
                _ => None,
            })
        }
        _ => None,
    };
    let wrapped = |before: &str, after: &str| {
        inner.iter().flatten().map(|value| format!("{before}{value}{after}")).collect::<Vec<_>>()
    };
    match last.ident.to_string().as_str() {
        "bool" => texts(&["true", "false"]),
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => texts(&["0", "1"]),
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => texts(&["0", "1", "-1"]),
        "f32" | "f64" => texts(&["0.0", "1.0", "-1.0"]),
        "String" => texts(&["String::new()", "\"xyzzy\".into()"]),
        "Result" => wrapped("Ok(", ")"),
        "Option" => [texts(&["None"]), wrapped("Some(", ")")].concat(),
        "Vec" => [texts(&["Vec::new()"]), wrapped("vec![", "]")].concat(),
        "Box" | "Arc" => wrapped(&format!("{}::new(", last.ident), ")"),
        _ => texts(&["Default::default()"]),
    }
}
