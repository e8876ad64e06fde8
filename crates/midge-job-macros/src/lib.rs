//! The attribute `#[midge_job::main]`, which makes a function into a WASI command that is a job.
//!
//! Invariant: it checks a function's form and writes `fn main`. What happens at run time is in midge-job.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, Item, ItemFn, ReturnType, Safety, Signature, Type};

/// Makes a function into a job. It is documented where it is used: in `midge_job`.
#[proc_macro_attribute]
pub fn main(arguments: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand(arguments.into(), item.into()).into()
}

/// Returns the item with a `fn main` beside it, or with everything that is wrong.
fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut wrong = Vec::new();
    if !arguments.is_empty() {
        let message = "`#[midge_job::main]` takes no arguments: a module's name, queue and limits are set in midge.toml";
        wrong.push(Error::new_spanned(arguments, message));
    }
    let function = match parse(&item) {
        Ok(function) => function,
        Err(error) => {
            wrong.push(error);
            return complain(wrong, Some(item));
        }
    };
    check(&function.sig, &mut wrong);
    if wrong.is_empty() {
        let main = main_for(&function.sig);
        return quote! { #item #main };
    }
    // Beside a `main` of its own, ours would be one too many.
    complain(wrong, (function.sig.ident != "main").then_some(item))
}

/// Returns our messages, and what it takes for the compiler to add none: the item, and some `main`.
fn complain(wrong: Vec<Error>, item: Option<TokenStream>) -> TokenStream {
    let messages = wrong.into_iter().map(Error::into_compile_error);
    quote! { #item #(#messages)* fn main() {} }
}

fn parse(item: &TokenStream) -> Result<ItemFn, Error> {
    match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Fn(function)) => Ok(function),
        Ok(other) => Err(Error::new_spanned(other, "`#[midge_job::main]` goes on a function")),
        // A method with `self` is no item. What has a mistake in it is neither, and the compiler will show it.
        Err(_) => syn::parse2::<ItemFn>(item.clone()),
    }
}

/// Collects every reason why a job cannot have this signature.
fn check(signature: &Signature, wrong: &mut Vec<Error>) {
    let mut refuse = |tokens: &dyn ToTokens, message: &str| wrong.push(Error::new_spanned(tokens, message));
    if signature.ident == "main" {
        refuse(
            &signature.ident,
            "name the function after the job: `#[midge_job::main]` writes `fn main` beside it",
        );
    }
    if let Some(asyncness) = &signature.asyncness {
        refuse(
            asyncness,
            "a job is not async: it has the guest to itself and may block; start a runtime inside it if a library needs one",
        );
    }
    if !matches!(signature.safety, Safety::Default) {
        refuse(&signature.safety, "a job is safe to call: `fn main` calls it with whatever args a job has");
    }
    if let Some(abi) = &signature.abi {
        refuse(abi, "a job is a plain Rust function: `fn main` calls it");
    }
    if !signature.generics.params.is_empty() {
        refuse(&signature.generics, "a job is not generic: its args are read as one known type");
    }
    check_arguments(signature, &mut refuse);
}

fn check_arguments(signature: &Signature, refuse: &mut dyn FnMut(&dyn ToTokens, &str)) {
    let mut types = Vec::new();
    for input in &signature.inputs {
        match input {
            FnArg::Typed(argument) => types.push(&*argument.ty),
            FnArg::Receiver(receiver) => {
                refuse(receiver, "a job is a free function, not a method: there is no `self` to call it on");
            }
        }
    }
    if let Some(second) = types.get(1) {
        refuse(second, "a job takes one argument, its args: put the values into one struct");
    }
    match types.first() {
        Some(Type::Reference(reference)) => {
            refuse(reference, "a job owns its args: take them by value (`String` for `&str`)");
        }
        Some(Type::ImplTrait(opaque)) => {
            refuse(opaque, "a job is not generic: its args are read as one known type");
        }
        _ => {}
    }
}

/// Writes the `fn main` that reads the args, calls the function, and writes its result.
fn main_for(signature: &Signature) -> TokenStream {
    let name = &signature.ident;
    // Spanned at the types, so that a missing `Deserialize` or `Serialize` is shown where the type is written.
    let call = match signature.inputs.first() {
        Some(FnArg::Typed(argument)) => {
            let ty = &argument.ty;
            let read = quote_spanned! { ty.span() => ::midge_job::__private::read_args::<#ty>()? };
            quote! { #name(#read) }
        }
        _ => quote! { #name() },
    };
    let result_span = match &signature.output {
        ReturnType::Type(_, ty) => ty.span(),
        ReturnType::Default => Span::call_site(),
    };
    let settle = quote_spanned! { result_span =>
        (&&&::midge_job::__private::Returned::of(&returned)).kind().settle(returned)
    };
    quote! {
        fn main() -> ::midge_job::__private::ExitCode {
            #[allow(unused_imports)]
            use ::midge_job::__private::{IsFallible as _, IsShowable as _, IsPlain as _};
            ::midge_job::__private::run(|| {
                #[allow(clippy::let_unit_value)]
                let returned = #call;
                #settle
            })
        }
    }
}
