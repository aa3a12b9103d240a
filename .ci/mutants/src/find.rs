//! What can be changed in a source file: the kinds of cargo-mutants, found by its rules where they make sense here.
//!
//! Left out: constants and `const fn` (a switch can't be asked there), what macros are given, code under `cfg`, what people read
//! (`Debug`, `Display`).

use std::ops::Range;

use proc_macro2::Span;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::values::values;

/// A place, and what can be put there.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) function: String,
    pub(crate) line: usize,
    pub(crate) change: Change,
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A function returns this at once; `at` is behind its opening brace.
    Return { at: usize, value: String },
    /// Another operator between two operands.
    Operator { whole: Range<usize>, left: Range<usize>, right: Range<usize>, from: String, to: &'static str },
    /// `!` or `-` left out.
    Unary { whole: Range<usize>, operand: Range<usize> },
    /// A guard that always, or never, holds.
    Guard { guard: Range<usize>, holds: bool },
    /// An arm that is never taken; there is one for everything after it.
    Arm { pattern_end: usize, guard: Option<Range<usize>> },
}

impl Site {
    /// What is changed, for people.
    pub(crate) fn describe(&self, source: &str) -> String {
        let what = match &self.change {
            Change::Return { value, .. } => {
                format!("returns {}", if value.is_empty() { "()" } else { value })
            }
            Change::Operator { whole, from, to, .. } => {
                format!("{from} is {to} in `{}`", short(&source[whole.clone()]))
            }
            Change::Unary { whole, operand } => {
                format!("`{}` is `{}`", short(&source[whole.clone()]), short(&source[operand.clone()]))
            }
            Change::Guard { guard, holds } => format!("guard `{}` is {holds}", short(&source[guard.clone()])),
            Change::Arm { pattern_end, .. } => {
                let start = source[..*pattern_end].rfind('\n').map_or(0, |at| at + 1);
                format!("no arm `{}`", short(&source[start..*pattern_end]))
            }
        };
        format!("{}: {what}", self.function)
    }
}

fn short(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() > 70 { text.chars().take(69).chain(['…']).collect() } else { text }
}

/// Every change that a file offers, in the order of the text.
pub(crate) fn sites(source: &str) -> syn::Result<Vec<Site>> {
    let mut finder = Finder { sites: Vec::new(), function: Vec::new(), typ: Vec::new() };
    finder.visit_file(&syn::parse_file(source)?);
    Ok(finder.sites)
}

struct Finder {
    sites: Vec<Site>,
    function: Vec<String>,
    typ: Vec<String>,
}

impl Finder {
    fn found(&mut self, span: Span, change: Change) {
        let name =
            self.typ.last().into_iter().chain(self.function.last()).cloned().collect::<Vec<_>>().join("::");
        self.sites.push(Site { function: name, line: span.start().line, change });
    }

    fn body(&mut self, signature: &syn::Signature, block: &syn::Block) {
        if signature.constness.is_some() {
            return;
        }
        self.function.push(signature.ident.to_string());
        let body = block.stmts.iter().map(|s| s.to_token_stream().to_string()).collect::<String>();
        if !block.stmts.is_empty() && signature.ident != "default" {
            for value in values(&signature.output) {
                let same =
                    value.parse::<proc_macro2::TokenStream>().is_ok_and(|tokens| tokens.to_string() == body);
                if !same {
                    let at = block.brace_token.span.open().byte_range().end;
                    self.found(signature.ident.span(), Change::Return { at, value });
                }
            }
        }
        visit::visit_block(self, block);
        self.function.pop();
    }
}

fn is_left_out(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("cfg") || attribute.path().is_ident("test"))
}

fn has_let(expr: &syn::Expr) -> bool {
    match expr {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

fn range(node: &impl Spanned) -> Range<usize> {
    node.span().byte_range()
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        if !is_left_out(&node.attrs) {
            self.body(&node.sig, &node.block);
        }
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        if !is_left_out(&node.attrs) {
            self.body(&node.sig, &node.block);
        }
    }

    fn visit_trait_item_fn(&mut self, node: &'ast syn::TraitItemFn) {
        if let Some(block) = &node.default
            && !is_left_out(&node.attrs)
        {
            self.body(&node.sig, block);
        }
    }

    fn visit_item_impl(&mut self, node: &'ast syn::ItemImpl) {
        let for_people = node.trait_.as_ref().is_some_and(|(_, path, _)| {
            path.segments.last().is_some_and(|last| last.ident == "Debug" || last.ident == "Display")
        });
        if !for_people && !is_left_out(&node.attrs) {
            self.typ.push(node.self_ty.to_token_stream().to_string().replace(' ', ""));
            visit::visit_item_impl(self, node);
            self.typ.pop();
        }
    }

    fn visit_item_mod(&mut self, node: &'ast syn::ItemMod) {
        if !is_left_out(&node.attrs) {
            visit::visit_item_mod(self, node);
        }
    }

    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_item_enum(&mut self, _: &'ast syn::ItemEnum) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_generics(&mut self, _: &'ast syn::Generics) {}
    fn visit_path(&mut self, _: &'ast syn::Path) {}

    fn visit_expr_repeat(&mut self, node: &'ast syn::ExprRepeat) {
        self.visit_expr(&node.expr);
    }

    fn visit_stmt(&mut self, node: &'ast syn::Stmt) {
        if !matches!(node, syn::Stmt::Local(local) if is_left_out(&local.attrs)) {
            visit::visit_stmt(self, node);
        }
    }

    fn visit_expr_block(&mut self, node: &'ast syn::ExprBlock) {
        if !is_left_out(&node.attrs) {
            visit::visit_expr_block(self, node);
        }
    }

    fn visit_expr_binary(&mut self, node: &'ast syn::ExprBinary) {
        if !has_let(&node.left) && !has_let(&node.right) {
            for to in others(&node.op) {
                let from = node.op.to_token_stream().to_string();
                self.found(
                    node.op.span(),
                    Change::Operator {
                        whole: range(node),
                        left: range(&node.left),
                        right: range(&node.right),
                        from,
                        to,
                    },
                );
            }
        }
        visit::visit_expr_binary(self, node);
    }

    fn visit_expr_unary(&mut self, node: &'ast syn::ExprUnary) {
        if matches!(node.op, syn::UnOp::Not(_) | syn::UnOp::Neg(_)) {
            self.found(node.span(), Change::Unary { whole: range(node), operand: range(&node.expr) });
        }
        visit::visit_expr_unary(self, node);
    }

    fn visit_expr_match(&mut self, node: &'ast syn::ExprMatch) {
        let wild = |arm: &syn::Arm| matches!(arm.pat, syn::Pat::Wild(_)) && arm.guard.is_none();
        let has_wild = node.arms.iter().any(wild);
        for arm in &node.arms {
            let guard = arm.guard.as_ref().map(|(_, guard)| guard);
            if guard.is_some_and(|guard| has_let(guard)) {
                continue;
            }
            if let Some(guard) = guard {
                for holds in [true, false] {
                    self.found(guard.span(), Change::Guard { guard: range(&**guard), holds });
                }
            }
            if has_wild && !wild(arm) {
                let pattern_end = range(&arm.pat).end;
                self.found(
                    arm.pat.span(),
                    Change::Arm { pattern_end, guard: guard.map(|guard| range(&**guard)) },
                );
            }
        }
        visit::visit_expr_match(self, node);
    }
}

/// What is put in an operator's place.
fn others(operator: &syn::BinOp) -> &'static [&'static str] {
    use syn::BinOp::{
        Add, AddAssign, And, BitAnd, BitAndAssign, BitOr, BitOrAssign, BitXor, BitXorAssign, Div, DivAssign,
        Eq, Ge, Gt, Le, Lt, Mul, MulAssign, Ne, Or, Rem, RemAssign, Shl, ShlAssign, Shr, ShrAssign, Sub,
        SubAssign,
    };
    match operator {
        Eq(_) => &["!="],
        Ne(_) => &["=="],
        Lt(_) => &["==", ">", "<="],
        Le(_) => &[">", "<"],
        Gt(_) => &["==", "<", ">="],
        Ge(_) => &["<", ">"],
        And(_) => &["||"],
        Or(_) => &["&&"],
        Add(_) => &["-", "*"],
        Sub(_) | Mul(_) => &["+", "/"],
        Div(_) => &["%", "*"],
        Rem(_) => &["/", "+"],
        Shl(_) => &[">>"],
        Shr(_) => &["<<"],
        BitAnd(_) => &["|", "^"],
        BitOr(_) => &["&", "^"],
        BitXor(_) => &["|", "&"],
        AddAssign(_) => &["-=", "*="],
        SubAssign(_) | MulAssign(_) => &["+=", "/="],
        DivAssign(_) => &["%=", "*="],
        RemAssign(_) => &["/=", "+="],
        ShlAssign(_) => &[">>="],
        ShrAssign(_) => &["<<="],
        BitAndAssign(_) => &["|="],
        BitOrAssign(_) => &["&="],
        BitXorAssign(_) => &["|=", "&="],
        _ => &[],
    }
}
